"""Events that Prefect did not store twice, or does not take: one of them may be the reason for all of them.

With an event that its database refuses, Prefect drops all others that it would have stored at the same time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

_PAUSE_SECONDS: Final = 600.0
_MOST_DOUBLINGS: Final = 6  # then the pause is more than ten hours
_OPEN_SECONDS: Final = 900.0


@dataclass(slots=True)
class _Suspect:
    failures: int = 0
    """How often it was posted on its own, and did not arrive."""
    blamed: int = 0
    """How often others arrived meanwhile."""
    pauses: int = 0
    rests_until: float = 0.0
    arrived_before: int | None = None
    """How many events had arrived when it was posted first, or failed last."""

    def rest(self, now: float) -> None:
        self.rests_until = now + _PAUSE_SECONDS * 2 ** min(self.pauses, _MOST_DOUBLINGS)
        self.pauses += 1


class Suspects:
    """Says which of them to post next: a single one, and twice as many each time that all of them arrive.

    One that twice does not arrive on its own, while others do, is left alone for ten minutes, and for longer each time.
    Times are in seconds.
    """

    def __init__(self) -> None:
        self._all: dict[UUID, _Suspect] = {}
        self._at_once = 1
        self._posted: set[UUID] = set()
        self._open_until = 0.0
        self._arrived = 0

    def __contains__(self, ident: UUID) -> bool:
        return ident in self._all

    def add(self, ids: Iterable[UUID]) -> None:
        """From now on these are suspects."""
        for ident in ids:
            self._all.setdefault(ident, _Suspect())

    def arrived(self, ids: Collection[UUID]) -> None:
        """Prefect has stored these; they are suspects no longer."""
        waited = bool(self._posted)
        self._arrived += len(ids)
        self._posted -= set(ids)
        for ident in ids:
            self._all.pop(ident, None)
        if not self._all:
            self._at_once = 1
        elif waited and not self._posted:
            self._at_once *= 2

    def refused(self, ids: Collection[UUID], now: float) -> None:
        """Prefect does not take these, which were posted together."""
        self.add(ids)
        self._at_once = 1
        if len(ids) == 1:
            for ident in ids:
                self._all[ident].rest(now)

    def resting(self, now: float) -> set[UUID]:
        """Return those to leave alone now."""
        return {ident for ident, suspect in self._all.items() if suspect.rests_until > now}

    def next_to_post(self, lost: Iterable[UUID], now: float) -> list[UUID]:
        """Return which to post now, together; none as long as it is open whether the last ones arrive.

        Args:
            lost: Events that Prefect has lost, or never took, the oldest first.
            now: The time.
        """
        lost = [ident for ident in lost if ident in self._all]
        if self._posted.intersection(lost) or now > self._open_until:
            self._give_up(now)
        if self._posted:
            return []
        waiting = [ident for ident in lost if self._all[ident].rests_until <= now]
        return sorted(waiting, key=lambda ident: self._all[ident].failures)[: self._at_once]

    def posted(self, ids: Iterable[UUID], now: float) -> None:
        """Prefect has taken these, or refused some of them."""
        self._posted = set(ids) - self.resting(now)
        self._open_until = now + _OPEN_SECONDS
        for ident in self._posted:
            if self._all[ident].arrived_before is None:
                self._all[ident].arrived_before = self._arrived

    def _give_up(self, now: float) -> None:
        """Those that were posted last do not arrive."""
        group, self._posted = self._posted, set()
        if group:
            self._at_once = 1
        if len(group) == 1:
            suspect = self._all[group.pop()]
            suspect.failures += 1
            # While nothing arrives, the reason is Prefect itself; and it may have recovered since this was posted.
            suspect.blamed += suspect.arrived_before != self._arrived
            if suspect.blamed > 1:
                suspect.rest(now)
            suspect.arrived_before = self._arrived
