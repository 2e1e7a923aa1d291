#!/bin/sh
# Run this for each release, once its API runs; again does no harm. It needs PREFECT_API_URL and the credentials block.
set -eu
cd "$(dirname "$0")/.."
export PWD  # where the workers find the flows, see prefect.yaml
prefect work-pool inspect calendly >/dev/null 2>&1 || prefect work-pool create calendly --type process
prefect block register --module prefect_calendly
python -m deployments.check --server
prefect --no-prompt deploy --prefect-file deployments/prefect.yaml --all
python -m deployments.automations
