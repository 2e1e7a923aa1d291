"""The decorator of our flows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import Flow, flow

from prefect_calendly.runs.quiet_logs import hide_parameters

P = ParamSpec("P")
R = TypeVar("R")


def calendly_flow(**options: Any) -> Callable[[Callable[P, R]], Flow[P, R]]:
    """Make a flow as `prefect.flow` does, and keep Prefect from logging its parameters: they can hold secrets.

    Args:
        options: Those of `prefect.flow`.

    Returns:
        A decorator.

    Example:
        ```python
        @calendly_flow(flow_run_name="hosts of {organization}")
        async def list_hosts(credentials: CalendlyCredentials, organization: str) -> int:
            return len(await alist_memberships(credentials, organization=organization))
        ```
    """

    def decorate(function: Callable[P, R]) -> Flow[P, R]:
        made: Flow[P, R] = flow(**options)(function)
        hide_parameters(made.name)
        return made

    return decorate
