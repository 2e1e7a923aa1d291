"""The only place that speaks HTTP: authentication, paging, pace, repeats, errors. No Prefect in here."""

from prefect_calendly.client.client import CalendlyClient
from prefect_calendly.client.fan_out import Outcome
from prefect_calendly.client.hosts import (
    DEFAULT_CONNECTIONS_URL,
    DEFAULT_GATEWAY_URL,
    checked_base_url,
    checked_key,
)
from prefect_calendly.client.meter import RequestMeter, count_requests
from prefect_calendly.client.retry import RetryPolicy
from prefect_calendly.client.transport import Method

__all__ = [
    "DEFAULT_CONNECTIONS_URL",
    "DEFAULT_GATEWAY_URL",
    "CalendlyClient",
    "Method",
    "Outcome",
    "RequestMeter",
    "RetryPolicy",
    "checked_base_url",
    "checked_key",
    "count_requests",
]
