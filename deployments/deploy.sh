#!/bin/sh
# Run this for each release, and after each change of your values; again does no harm. It needs PREFECT_API_URL and the
# credentials block. In a terminal it asks before it changes what is on the server otherwise; with --yes it does not.
set -eu
cd "$(dirname "$0")/.."
export PWD  # where the workers find the flows, see prefect.yaml
ask=--ask
[ "${1:-}" != --yes ] || ask=
prefect work-pool inspect calendly >/dev/null 2>&1 || prefect work-pool create calendly --type process
prefect block register --module prefect_calendly
python -m deployments.check --server $ask
prefect --no-prompt deploy --prefect-file deployments/prefect.yaml --all
python -m deployments.automations
