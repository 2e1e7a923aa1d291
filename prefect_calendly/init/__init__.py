"""`prefect-calendly init`: a project of one's own, made of the ready flows.

`deployments` chooses what runs when, `project` puts the files together and writes them, and `templates/` has the files
that are the same in every project.
"""
