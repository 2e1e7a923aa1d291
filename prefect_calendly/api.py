"""Any endpoint that has no task of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect_calendly.client import CalendlyClient, Method
from prefect_calendly.client.identifiers import checked_path
from prefect_calendly.resource import check_choice
from prefect_calendly.tasks import make_tasks

METHODS = ("GET", "POST", "PATCH", "PUT", "DELETE")


async def call_endpoint_via(
    client: CalendlyClient,
    method: Method,
    path: str,
    *,
    params: Mapping[str, Any] | None = None,
    json: Any = None,
) -> Any:
    """Call an endpoint that has no task of its own.

    A GET is repeated after errors that pass, a write only if Calendly has certainly not processed it.

    Source: the given path.

    Args:
        credentials: The Calendly account to use.
        method: HTTP method.
        path: Native Calendly path, such as `/locations`; without host, without the gateway's `/calendly`.
        params: Query parameters; None values are left out.
        json: Body, for writes.

    Returns:
        The decoded answer; None where there is no body.

    Raises:
        ValueError: The method is unknown, or the path is not a plain path.
        CalendlyError: The call failed; see `prefect_calendly.client.errors`.

    Example:
        ```python
        user = get_current_user(credentials)
        answer = call_endpoint(credentials, "GET", "/locations", params={"user": user.uri})
        ```
    """
    check_choice(method, METHODS, "method")
    return await client.request(method, checked_path(path), params=params, json=json)


acall_endpoint, call_endpoint = make_tasks("Call a Calendly endpoint", call_endpoint_via, writes=True)
