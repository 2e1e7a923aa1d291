"""What a stretch of work costs: requests, repeats, seconds of waiting."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass
class RequestMeter:
    """What a stretch of work cost.

    Attributes:
        requests: Requests sent, repeats included.
        repeats: How many of them were repeats.
        seconds_waited: Seconds in which at least one request waited for a limit, or before a repeat.
        limit: Calendly's limit of requests a minute when `least_left` was read; None if no answer named it.
        least_left: The least that was left of that limit, as the answers said; None if none did.
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
    def waiting(self, clock: Callable[[], float]) -> Iterator[None]:
        """Note that a request waits for as long as the block lasts; what waits at the same time counts once."""
        if self._waiting == 0:
            self._since = clock()
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1
            if self._waiting == 0:
                self.seconds_waited += clock() - self._since


_meters: ContextVar[tuple[RequestMeter, ...]] = ContextVar("calendly_request_meters", default=())


@contextlib.contextmanager
def count_requests() -> Iterator[RequestMeter]:
    """Count the requests of every client used inside the block, in tasks of a flow too.

    Yields:
        The meter, which counts while the block lasts; blocks can be nested.

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
def waiting(clock: Callable[[], float]) -> Iterator[None]:
    """Note in all running meters that a request waits for as long as the block lasts."""
    with contextlib.ExitStack() as stack:
        for meter in _meters.get():
            stack.enter_context(meter.waiting(clock))
        yield


def note_request(*, repeat: bool) -> None:
    """Count a request in all running meters."""
    for meter in _meters.get():
        meter.requests += 1
        meter.repeats += repeat


def note_answer(limit: int | None, left: int | None) -> None:
    """Note in all running meters what an answer said of Calendly's limit."""
    for meter in _meters.get():
        meter.answered(limit, left)
