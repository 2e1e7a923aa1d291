"""What a digest is asked for: the form, and references to hosts and event types."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from prefect_calendly.client.identifiers import CALENDLY_ORIGIN, uuid_of
from prefect_calendly.runs.forms import Notifier, Parameters, ZoneName, form_pattern, optional_form_field

MAX_DAYS: Final = 62
MAX_LEAD_TIME: Final = timedelta(days=730)

_EMAIL = r"[^@\s,;<>]+@[^@\s,;<>]+\.[^@\s,;<>]+"


def _host_reference(text: str) -> str:
    text = text.strip()
    if "@" not in text:
        return uuid_of(text, "users", "host")
    if not re.fullmatch(_EMAIL, text):
        raise ValueError("must be a user's URI, uuid or email address; this is not an email address")
    return text.lower()


def _event_type_reference(text: str) -> str:
    return uuid_of(text.strip(), "event_types", "event type")


HostReference = Annotated[
    str,
    AfterValidator(_host_reference),
    Field(
        json_schema_extra=form_pattern(
            rf"^\s*(({CALENDLY_ORIGIN}/users/)?[A-Za-z0-9_-]+|{_EMAIL})\s*$", "the URI, uuid or email address of a user"
        )
    ),
]
EventTypeReference = Annotated[
    str,
    AfterValidator(_event_type_reference),
    Field(
        json_schema_extra=form_pattern(
            rf"^\s*({CALENDLY_ORIGIN}/event_types/)?[A-Za-z0-9_-]+\s*$", "the URI or uuid of an event type"
        )
    ),
]


class DigestRequest(Parameters):
    """Whose availability the digest shows, and for which days."""

    scope: Literal["hosts", "organization"] = Field(
        default="hosts",
        description="The hosts listed below, or every member of the organization (requires an owner or admin).",
        json_schema_extra={"position": 0},
    )
    hosts: tuple[HostReference, ...] = Field(
        default=(),
        max_length=1000,
        description=(
            "User URIs, uuids or email addresses (addresses require an owner or admin, and are stored by Prefect with "
            "the parameters of the run); empty = your own user. Leave empty with scope organization."
        ),
        json_schema_extra={"position": 1},
    )
    days: int = Field(
        default=7,
        ge=1,
        le=MAX_DAYS,
        description=f"Number of days, 1 to {MAX_DAYS}.",
        json_schema_extra={"position": 2},
    )
    timezone: ZoneName = Field(
        default="UTC",
        max_length=100,
        description="IANA time zone in which days begin and times are shown, such as Europe/Berlin.",
        json_schema_extra={"position": 3},
    )
    first_day: date | None = Field(
        default=None,
        description="First day of the digest, at most two years ahead; empty = today in the time zone.",
        json_schema_extra=optional_form_field(4),
    )
    event_types: tuple[EventTypeReference, ...] = Field(
        default=(),
        max_length=1000,
        description="Only these event types, as URIs or uuids; empty = all active ones.",
        json_schema_extra={"position": 5},
    )
    notify: Notifier = Field(
        default=None,
        description="Type and name of a saved notification block that receives a short message, such as "
        "slack-webhook/ops.",
        json_schema_extra=optional_form_field(6),
    )

    @field_validator("hosts")
    @classmethod
    def _fit_the_scope(cls, hosts: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if hosts and info.data.get("scope") == "organization":
            raise ValueError("must be empty with scope organization, which means every member")
        return hosts

    @field_validator("first_day")
    @classmethod
    def _is_not_past(cls, first_day: date | None, info: ValidationInfo) -> date | None:
        if first_day is not None and "timezone" in info.data:
            today = datetime.now(ZoneInfo(info.data["timezone"])).date()
            if not today <= first_day <= today + MAX_LEAD_TIME:
                raise ValueError(f"must be {today} (today in {info.data['timezone']}) or up to two years later")
        return first_day

    @property
    def start_day(self) -> date:
        """The first day, which is today if the request names none."""
        return self.first_day or datetime.now(ZoneInfo(self.timezone)).date()
