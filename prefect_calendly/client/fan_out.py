"""One call for each of many items, a bounded number at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from prefect_calendly.client.errors import AuthenticationError, CalendlyError, NoConnectionError

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741  (an item)


@dataclass(frozen=True, slots=True)
class Outcome(Generic[I, T]):
    """How one item of a fan-out ended: with a value, or with an error."""

    item: I
    value: T | None = None
    error: CalendlyError | None = None


async def each(items: Iterable[I], call: Callable[[I], Awaitable[T]], at_once: int) -> list[Outcome[I, T]]:
    """Call a coroutine function for every item, and return one outcome per item; see `CalendlyClient.each`."""
    if at_once < 1:
        raise ValueError(f"at_once must be at least 1, not {at_once!r}")
    waiting = list(items)
    outcomes: list[Outcome[I, T] | None] = [None] * len(waiting)
    numbered = iter(enumerate(waiting))

    async def work() -> None:
        for index, item in numbered:
            try:
                outcomes[index] = Outcome(item, value=await call(item))
            except (AuthenticationError, NoConnectionError):
                raise
            except CalendlyError as error:
                outcomes[index] = Outcome(item, error=error)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(at_once, len(waiting))):
                group.create_task(work())
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [outcome for outcome in outcomes if outcome is not None]


def values_of(outcomes: Iterable[Outcome[I, T]]) -> list[T]:
    """Return the values of a fan-out; raise the first error, if there is one."""
    values: list[T] = []
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error
        values.append(outcome.value)  # type: ignore[arg-type]  # no error: it has its value
    return values
