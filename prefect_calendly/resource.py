"""What all Calendly models have in common, and the checks of arguments."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar
from zoneinfo import available_timezones

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError

from prefect_calendly.client.times import utc

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

_EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(?:\.[^@\s.]+)+")


class Resource(BaseModel):
    """An immutable part of a Calendly answer; members that the model does not name are kept in `model_extra`.

    Validation errors do not show the input: answers hold personal data.
    """

    model_config = ConfigDict(frozen=True, extra="allow", hide_input_in_errors=True)


def _none_is_empty(value: Any) -> Any:
    return () if value is None else value


Items = Annotated[tuple[T, ...], BeforeValidator(_none_is_empty)]
"""A list, for which Calendly may also give null."""


def _in_utc(value: datetime) -> datetime:
    return value if value.tzinfo is not None else value.replace(tzinfo=UTC)


Time = Annotated[datetime, AfterValidator(_in_utc)]
"""A time in an answer, always aware: one without a zone is in UTC, as all times of Calendly are."""


@functools.cache
def zone_names() -> frozenset[str]:
    """Return the IANA names of all time zones that this machine knows; they are read from disk once."""
    return frozenset(available_timezones())


def check_order(start: datetime | None, end: datetime | None, start_name: str, end_name: str) -> None:
    """Check that the end is after the start, if both are given; raise ValueError otherwise."""
    if start is not None and end is not None and utc(end, end_name) <= utc(start, start_name):
        raise ValueError(f"{end_name} must be after {start_name}")


def check_sort(sort: str | None, fields: Sequence[str]) -> None:
    """Check a `sort` argument: `field:asc` or `field:desc`, separated by commas; raise ValueError otherwise."""
    for part in sort.split(",") if sort is not None else ():
        field, _, direction = part.partition(":")
        if field not in fields or direction not in ("asc", "desc"):
            raise ValueError(
                f"sort must be a comma-separated list of {', '.join(fields)} with :asc or :desc, not {sort!r}"
            )


def check_choice(value: object, choices: Sequence[str], argument: str) -> None:
    """Check that an argument, if it is given, is one of its choices; raise ValueError otherwise."""
    if value is not None and value not in choices:
        raise ValueError(f"{argument} must be one of {', '.join(choices)}, not {value!r}{_suggestion(value, choices)}")


def _suggestion(value: object, choices: Iterable[str]) -> str:
    """Return what to add to an error text if a wrong name is close to one of the right ones."""
    nearest = difflib.get_close_matches(value.lower(), choices, n=1) if isinstance(value, str) else []
    return f"; did you mean {nearest[0]!r}?" if nearest else ""


def check_email(value: str | None, argument: str) -> None:
    """Check an e-mail address, if it is given; raise ValueError otherwise. The text does not repeat the address."""
    if value is not None and not (isinstance(value, str) and _EMAIL.fullmatch(value)):
        raise ValueError(f"{argument} must be an e-mail address")


def given_model(model: type[M], value: Any, argument: str) -> M:
    """Read a model that the caller gives, as such or as a mapping; a misspelled member is an error."""
    try:
        given = model.model_validate(value.model_dump() if isinstance(value, model) else value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise ValueError(f"{argument}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if given.model_extra:
        known, unknown = ", ".join(model.model_fields), next(iter(given.model_extra))
        raise ValueError(
            f"{argument} has an unknown member {unknown!r}; there are {known}{_suggestion(unknown, model.model_fields)}"
        )
    return given


def windows(start: datetime, end: datetime, days: int) -> Iterator[tuple[datetime, datetime]]:
    """Split a span of UTC times into adjoining windows of at most that many days.

    Args:
        start: Beginning, in UTC.
        end: End, in UTC.
        days: Longest window.

    Yields:
        Beginning and end of each window, in order, without gap or overlap.
    """
    while start < end:
        stop = min(end, start + timedelta(days=days))
        yield start, stop
        start = stop
