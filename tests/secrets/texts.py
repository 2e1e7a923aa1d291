"""What is secret in these tests, and how it is looked for: in clear, encoded, and in the variables of a traceback."""

from __future__ import annotations

import base64
import contextlib
import logging
import secrets
import traceback
from collections.abc import Iterator

import cloudpickle
from rich.pretty import Node
from rich.traceback import Traceback


def _unlike_any_other(prefix: str) -> str:
    return f"{prefix}{secrets.token_hex(6)}"  # short, and letters and figures only: no table breaks or escapes it


KEY = _unlike_any_other("makey")
REFUSED_KEY = _unlike_any_other("nokey")
SIGNING_KEY = _unlike_any_other("whsec")
NO_SIGNING_KEY = _unlike_any_other("other")
HOOK = _unlike_any_other("hook")
"""A part of the URL that notifications go to."""
PERSON = _unlike_any_other("pat")
"""Somebody who has booked."""
PUBLISHED_PERSON = _unlike_any_other("tom")
"""Somebody whose booking is an event in Prefect."""
PLANTED = _unlike_any_other("plant")
"""What is left everywhere, to try the search."""

SECRETS = {
    "Maton key": KEY,
    "refused Maton key": REFUSED_KEY,
    "signing key": SIGNING_KEY,
    "Secret block of something else": NO_SIGNING_KEY,
}


def spellings(text: str) -> list[str]:
    """A text as it is, in hexadecimal, and in the three ways in which base64 may hold it."""
    found = [text, text.encode().hex()]
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + text.encode()).decode()
        found.append(encoded[(0, 2, 3)[before] : -4])  # without what depends on its neighbors
    return found


def places_of_errors(errors: list[BaseException]) -> dict[str, str]:
    """What a log, rich, a debugger and a worker's pickle show of errors, by place."""
    return {
        "tracebacks": "\n".join("".join(traceback.format_exception(error)) for error in errors),
        "variables in tracebacks": "\n".join(_with_variables(error) for error in errors),
        "variables in hidden tracebacks": "\n".join(_with_all_variables(error) for error in errors),
        "errors": "\n".join(f"{error!r} {vars(error)}" for error in errors),
        "pickled errors": "\n".join(cloudpickle.dumps(error).decode("latin-1") for error in errors),
    }


def _with_variables(error: BaseException) -> str:
    """What rich shows of an error with `show_locals`."""
    shown = Traceback.extract(
        type(error), error, error.__traceback__, show_locals=True, locals_max_length=None, locals_max_string=None
    )
    nodes: Iterator[tuple[str, Node]] = (
        item for stack in shown.stacks for frame in stack.frames for item in (frame.locals or {}).items()
    )
    return "\n".join(f"{name} = {node}" for name, node in nodes)


def _with_all_variables(error: BaseException) -> str:
    """The variables of an error and of all that are chained to it, whether or not a traceback shows them."""
    chain, waiting = list[BaseException](), [error]
    while waiting:
        each = waiting.pop()
        chain.append(each)
        more = [each.__cause__, each.__context__, *getattr(each, "exceptions", ())]
        waiting += [other for other in more if other is not None and other not in chain]
    texts = (traceback.TracebackException.from_exception(each, capture_locals=True) for each in chain)
    return "\n".join("".join(text.format(chain=False)) for text in texts)


@contextlib.contextmanager
def everything_logged() -> Iterator[list[str]]:
    """Keep every record of every logger, with its traceback and arguments, at DEBUG."""
    lines: list[str] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(f"{record.name} {self.format(record)} {record.args!r}")

    keeper = Keeper()
    loggers = [logging.getLogger(name) for name in ("", "prefect", "prefect.flow_runs", "prefect.task_runs")]
    loud = [*loggers, *map(logging.getLogger, ("httpx", "httpcore", "asyncio", "prefect_calendly", "flows"))]
    levels = [logger.level for logger in loud]
    for logger in loud:
        logger.setLevel(logging.DEBUG)
    for logger in loggers[:2]:
        logger.addHandler(keeper)
    try:
        yield lines
    finally:
        for logger in loggers[:2]:
            logger.removeHandler(keeper)
        for logger, level in zip(loud, levels, strict=True):
            logger.setLevel(level)
