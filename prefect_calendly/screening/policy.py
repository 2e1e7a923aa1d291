"""Which bookings are unwanted, and how far canceling may go: the form that a person fills in."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import AwareDatetime, Field, StringConstraints

from prefect_calendly.bookings.listing import SCOPE_HELP, Scope
from prefect_calendly.runs.forms import Notifier, Parameters, optional_form_field
from prefect_calendly.scheduled_events import LONGEST_REASON
from prefect_calendly.screening.domains import Domains, Emails, RegistrableDomains

DOES_NOT_DECIDE: Final = frozenset(
    {
        *("horizon_days", "starting_at", "full_scan_hours"),  # which events are read
        *("max_cancellations", "reason", "mask_emails", "notify"),  # what is done afterwards, and shown
    }
)
"""Fields that do not matter for what is decided about an event. A field that is not named here matters: a scan with
another value of it reads every event again."""


class CancelPolicy(Parameters):
    """Whose bookings are not wanted, and how far canceling may go."""

    blocked_domains: RegistrableDomains = Field(
        min_length=1,
        max_length=10_000,
        description="Domains whose bookings are canceled, such as spam.example; upper case and IDN are fine.",
        json_schema_extra={"position": 0},
    )
    include_subdomains: bool = Field(
        default=True,
        description="Whether a domain, blocked or allowed, stands for its subdomains too.",
        json_schema_extra={"position": 1},
    )
    allowed_domains: Domains = Field(
        default=[],
        max_length=10_000,
        description="Domains that are welcome, even where a blocked domain fits.",
        json_schema_extra={"position": 2},
    )
    allowed_emails: Emails = Field(
        default=[],
        max_length=10_000,
        description="Addresses that are welcome, even where a blocked domain fits. Prefect stores them with the run.",
        json_schema_extra={"position": 3},
    )
    protect_own_domains: bool = Field(
        default=True,
        description=(
            "Never treat the e-mail domains of the organization's members as blocked (with scope user: your own "
            "domain). The summary warns when a blocked domain is one of them."
        ),
        json_schema_extra={"position": 4},
    )
    scope: Scope = Field(
        default="user",
        description=SCOPE_HELP,
        json_schema_extra={"position": 5},
    )
    horizon_days: int = Field(
        default=30,
        ge=1,
        le=365,
        description="How many days ahead to look.",
        json_schema_extra={"position": 6},
    )
    starting_at: AwareDatetime | None = Field(
        default=None,
        description="Where the days begin, with a time zone; empty is now. What has begun cannot be canceled.",
        json_schema_extra=optional_form_field(7),
    )
    check_guests: bool = Field(
        default=True,
        description="Whether to check the guests that invitees bring along, too.",
        json_schema_extra={"position": 8},
    )
    group_events: Literal["report", "cancel"] = Field(
        default="report",
        description=(
            "A group event that invitees who are not blocked have booked too: only report it, or cancel it. An event "
            "is always canceled for all its invitees. One that only blocked invitees have booked is canceled anyway."
        ),
        json_schema_extra={"position": 9},
    )
    max_cancellations: int = Field(
        default=25,
        ge=1,
        le=1_000,
        description="If more events than this would be canceled, none is, and the run fails.",
        json_schema_extra={"position": 10},
    )
    reason: Annotated[str, StringConstraints(strip_whitespace=True)] = Field(
        default=(
            "We do not take bookings from this e-mail domain. If you think that this is a mistake, please contact us."
        ),
        max_length=LONGEST_REASON,
        description="What the invitees are told; may be empty. An account that refuses reasons cancels without one.",
        json_schema_extra={"position": 11},
    )
    mask_emails: bool = Field(
        default=True,
        description="Show addresses as j…@example.com in the artifacts. Logs never show any.",
        json_schema_extra={"position": 12},
    )
    full_scan_hours: int = Field(
        default=24,
        ge=0,
        le=168,
        description=(
            "After how many hours every event is read again. In between, only what is new or has changed since "
            "the last successful run with the same policy. 0: every event, each time."
        ),
        json_schema_extra={"position": 13},
    )
    notify: Notifier = Field(
        default=None,
        description=(
            "Type and name of a saved notification block, such as slack-webhook/ops: gets a message when something "
            "was or would be canceled, or has failed."
        ),
        json_schema_extra=optional_form_field(14),
    )

    def what_decides(self) -> dict[str, Any]:
        """Return all that matters for a decision about an event; the order of lists does not."""
        fields = self.model_dump(mode="json", exclude=set(DOES_NOT_DECIDE))
        return {name: sorted(value) if isinstance(value, list) else value for name, value in fields.items()}
