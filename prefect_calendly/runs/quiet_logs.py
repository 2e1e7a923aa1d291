"""What loggers must not print while a flow runs: secrets in parameters and URLs, and false alarms.

All logging filters for runs are here. The client, which knows no Prefect, removes the query from what httpx logs.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator


class _WithoutParameters(logging.Filter):
    """If a parameter of a flow is invalid, Prefect logs all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.flows: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        for name in self.flows:
            start = f"Parameter validation failed for flow {name!r}"
            if message.startswith(start):
                record.msg, record.args = f"{start}; the error says which parameter", ()
        return True


class _WithoutUrls(logging.Filter):
    """httpx logs every URL at INFO, urllib3 and apprise at DEBUG. That of a Slack webhook, for example, is a secret."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()
        self.users = 0

    def filter(self, record: logging.LogRecord) -> bool:
        return not self.users


class _SuspendedIsNoError(logging.Filter):
    """Prefect logs the end of an async run as an error unless it is Completed, also if it waits for a person."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.getMessage().startswith("Finished in state Suspended("):
            record.levelno, record.levelname = logging.INFO, logging.getLevelName(logging.INFO)
        return True


_without_parameters, _without_urls = _WithoutParameters(), _WithoutUrls()
logging.getLogger("prefect.flows").addFilter(_without_parameters)
logging.getLogger("prefect.flow_runs").addFilter(_SuspendedIsNoError())
for _name in ("httpx", "urllib3.connectionpool", "apprise"):
    logging.getLogger(_name).addFilter(_without_urls)


def hide_parameters(flow_name: str) -> None:
    """Keep Prefect from logging the parameters of a flow.

    Args:
        flow_name: Name of the flow, such as `cancel-blocked-domains`.
    """
    _without_parameters.flows.add(flow_name)


@contextlib.contextmanager
def urls_unlogged() -> Iterator[None]:
    """Keep HTTP clients from logging URLs inside the block, in other threads too: apprise sends in a thread."""
    with _without_urls.lock:
        _without_urls.users += 1
    try:
        yield
    finally:
        with _without_urls.lock:
            _without_urls.users -= 1
