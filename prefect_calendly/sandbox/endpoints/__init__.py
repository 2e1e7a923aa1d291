"""The endpoints, one file per resource family, named as the client's: who may, what is valid, what changes.

To add an endpoint, write a handler in the file of its family and decorate it with the file's `route`. A new family is
listed below.
"""

from prefect_calendly.sandbox.endpoints import (
    availability,
    connections,
    event_types,
    groups,
    invitees,
    locations,
    organizations,
    scheduled_events,
    scheduling_links,
    users,
    webhook_subscriptions,
)
from prefect_calendly.sandbox.routing import Router

calendly = Router()
for family in (
    availability,
    event_types,
    groups,
    invitees,
    locations,
    organizations,
    scheduled_events,
    scheduling_links,
    users,
    webhook_subscriptions,
):
    calendly.include(family.router)
gateway = connections.router
