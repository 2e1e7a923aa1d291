"""What has changed in Calendly since the last run, and where it is kept how far that run has come.

Calendly lists no changes: all events of a window are listed, and only those that have changed are read.
"""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from prefect.exceptions import ObjectAlreadyExists
from prefect.variables import Variable
from pydantic import BaseModel

from prefect_calendly.scheduled_events import ScheduledEvent

C = TypeVar("C", bound=BaseModel)

CLOCKS_DIFFER: Final = timedelta(hours=1)
"""By how much. A time that is further ahead is a mistake: were it believed, nothing would be new until then."""

# A change is seen a little later in another page, or by another server of Calendly.
LEAST_OVERLAP: Final = timedelta(minutes=5)


def overlap(seconds: float) -> timedelta:
    """Return how far two runs' looks at changes overlap, after a listing that took some seconds."""
    return max(LEAST_OVERLAP, timedelta(seconds=2 * seconds))


def newest_change(events: Iterable[ScheduledEvent], now: datetime) -> datetime | None:
    """Return when the last change of some events was, in Calendly's own time; None if there are no events."""
    times = (event.updated_at for event in events)
    return max((each for each in times if each <= now + CLOCKS_DIFFER), default=None)


def mark(text: str) -> str:
    """Return eight letters that stand for a text: what is kept has to be short, and names nobody."""
    return urlsafe_b64encode(hashlib.sha256(text.encode()).digest()[:6]).decode()


def mark_of_change(event: ScheduledEvent) -> str:
    """Return a mark of an event as it is after its last change."""
    return mark(f"{event.uri} {event.updated_at.astimezone(UTC).isoformat()}")


def is_shared(event: ScheduledEvent) -> bool:
    """Say whether several can book or have booked an event.

    Calendly does not say whether somebody who joins or leaves a group changes the event's `updated_at`.
    """
    return event.invitees_counter.limit > 1 or event.invitees_counter.total > 1


def cursor_name(what: str, *key: Any) -> str:
    """Return the name of the variable that holds a cursor: another one for each key, which it does not show."""
    return f"calendly_{what}_{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:12]}"


async def read_cursor(name: str, kind: type[C]) -> C | None:
    """Return the cursor that a run before has kept; None if there is none.

    Raises:
        pydantic.ValidationError: The variable holds something else.
    """
    kept: Any = await Variable.aget(name)
    return None if kept is None else kind.model_validate_json(json.dumps(kept))


async def keep_cursor(name: str, cursor: BaseModel) -> None:
    """Keep a cursor in a Prefect variable, for the next run."""
    value = cursor.model_dump(mode="json")
    try:
        await Variable.aset(name, value, tags=["calendly"], overwrite=True)
    except ObjectAlreadyExists:  # another first run was faster
        await Variable.aset(name, value, tags=["calendly"], overwrite=True)
