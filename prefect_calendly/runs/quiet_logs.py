"""What the loggers of Prefect, httpx and others must not print: secrets in parameters and URLs, and false alarms."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator


class _WithoutParameters(logging.Filter):
    """Prefect logs all parameters of a flow if one of them is invalid."""

    def __init__(self) -> None:
        super().__init__()
        self.flows: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        for name in self.flows:
            if message.startswith(said := f"Parameter validation failed for flow {name!r}"):
                record.msg, record.args = f"{said}; the error says which parameter", ()
        return True


class _WithoutUrls(logging.Filter):
    """httpx logs every URL at INFO, urllib3 and apprise at DEBUG: some are secrets."""

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
    """Keep HTTP clients from logging URLs while the block lasts: in other threads too, where apprise sends."""
    with _without_urls.lock:
        _without_urls.users += 1
    try:
        yield
    finally:
        with _without_urls.lock:
            _without_urls.users -= 1
