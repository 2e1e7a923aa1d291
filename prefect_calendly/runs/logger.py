"""The logger of the current run."""

from __future__ import annotations

import logging
from typing import Any

from prefect.exceptions import MissingContextError
from prefect.logging import get_logger, get_run_logger


def run_logger() -> logging.Logger | logging.LoggerAdapter[Any]:
    """Return the logger of the current flow or task run; outside of a run, the logger `prefect.calendly`.

    Example:
        >>> run_logger().name
        'prefect.calendly'
    """
    try:
        return get_run_logger()
    except MissingContextError:
        return get_logger("calendly")
