#!/bin/sh
# What each release does once its API runs; doing it again does no harm. Needs PREFECT_API_URL and the credentials block.
set -eu
cd "$(dirname "$0")/.."
prefect work-pool inspect calendly >/dev/null 2>&1 || prefect work-pool create calendly --type process
prefect block register --module prefect_calendly
python -m deployments.check --server
prefect --no-prompt deploy --prefect-file deployments/prefect.yaml --all
python -m deployments.automations
