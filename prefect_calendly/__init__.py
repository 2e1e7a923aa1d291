"""Calendly for Prefect: a credentials block, a typed task for every endpoint, and a sandbox gateway.

Tasks live in one module per Calendly resource: `users`, `event_types`, `scheduled_events`, `invitees`,
`availability`, `organizations`, `webhook_subscriptions`, `connections`, and `api` for everything else.
"""

from prefect_calendly.about import __version__
from prefect_calendly.client import CalendlyClient
from prefect_calendly.client.errors import CalendlyError
from prefect_calendly.credentials import CalendlyCredentials

__all__ = ["CalendlyClient", "CalendlyCredentials", "CalendlyError", "__version__"]
