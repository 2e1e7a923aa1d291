"""Check the deployments file: `python -m deployments.check [--server] [file]`.

Prefect ignores keys that it does not know, and stores what it is given: a typo deploys a flow without a schedule, and a
template of a secret ends in the database in clear. What is found here is found before anything is deployed.
"""
