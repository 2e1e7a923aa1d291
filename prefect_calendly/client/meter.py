"""What a stretch of work costs: requests, repeats, seconds of waiting."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass
class RequestMeter:
    """What a stretch of work cost: requests sent, of them repeats, and seconds in which one of them had to wait.

    A request waits for a limit or before a repeat; what waits at the same time counts once. `least_left` is the least
    that was left of Calendly's `limit` of requests a minute, as its answers said; None where none did.
    """

    requests: int = 0
    repeats: int = 0
    seconds_waited: float = 0.0
    limit: int | None = None
    least_left: int | None = None
    _waiting: int = field(default=0, repr=False)
    _since: float = field(default=0.0, repr=False)

    def answered(self, limit: int | None, left: int | None) -> None:
        """Note what an answer said of Calendly's limit."""
        if left is not None and (self.least_left is None or left <= self.least_left):
            self.least_left, self.limit = left, limit

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Note that a request waits for as long as the block lasts."""
        if self._waiting == 0:
            self._since = time.monotonic()
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1
            if self._waiting == 0:
                self.seconds_waited += time.monotonic() - self._since


_meters: ContextVar[tuple[RequestMeter, ...]] = ContextVar("calendly_request_meters", default=())


@contextlib.contextmanager
def count_requests() -> Iterator[RequestMeter]:
    """Count the requests of every client used inside the block, in tasks of a flow too.

    Example:
        >>> with count_requests() as meter:
        ...     pass
        >>> meter.requests
        0
    """
    meter = RequestMeter()
    token = _meters.set((*_meters.get(), meter))
    try:
        yield meter
    finally:
        _meters.reset(token)


@contextlib.contextmanager
def waiting() -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for meter in _meters.get():
            stack.enter_context(meter.waiting())
        yield


def note_request(*, repeat: bool) -> None:
    """Count a request in all meters that are running."""
    for meter in _meters.get():
        meter.requests += 1
        meter.repeats += repeat


def note_answer(limit: int | None, left: int | None) -> None:
    """Note in all meters that are running what an answer said of Calendly's limit."""
    for meter in _meters.get():
        meter.answered(limit, left)
