"""Logs as lines of JSON, which show nothing of a request."""

from __future__ import annotations

import json
import logging
import traceback
from datetime import UTC, datetime
from typing import Any


def log_json() -> None:
    """Write all logs of this process to stderr as lines of JSON, whatever Prefect and uvicorn have set up."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    logging.captureWarnings(True)
    for name in list(logging.root.manager.loggerDict):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("prefect_calendly").setLevel(logging.INFO)
    # At INFO, httpx logs URLs. uvicorn warns of each bad request, and anybody can send as many as they like.
    for name, level in (("httpx", logging.WARNING), ("prefect", logging.WARNING), ("uvicorn", logging.ERROR)):
        logging.getLogger(name).setLevel(level)


class JsonFormatter(logging.Formatter):
    """A line of JSON; of an exception only its type and place, as its text may show anything."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            line["error"] = type(error).__name__
            line["at"] = [f"{each.filename}:{each.lineno}" for each in traceback.extract_tb(error.__traceback__)][-5:]
        return json.dumps(line)
