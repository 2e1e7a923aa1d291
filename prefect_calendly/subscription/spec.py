"""The webhook subscription that there should be: the form that a person fills in."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, ValidationInfo, field_validator

from prefect_calendly.client.identifiers import uri_of
from prefect_calendly.runs.forms import Notifier, Parameters, empty_is_none, form_pattern, optional_form_field
from prefect_calendly.runs.state import state_name
from prefect_calendly.webhook_subscriptions import WebhookEvent, WebhookScope, checked_callback_url, checked_events

_RESERVED_DOMAINS: Final = ("example", "example.com", "example.net", "example.org", "invalid", "test")
"""Domains that belong to nobody, and that documentation uses for its examples."""


def _block_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9-]+", name):
        raise ValueError("must be the name of a Secret block, such as calendly-key: lowercase letters, digits, dashes")
    return name


BlockName = Annotated[
    str,
    StringConstraints(max_length=100),
    AfterValidator(_block_name),
    Field(json_schema_extra=form_pattern(r"^[a-z0-9-]*$", "the name of a Secret block, such as calendly-key")),
]


@dataclass(frozen=True, slots=True)
class Account:
    """The Calendly account that a flow works for."""

    gateway: str
    """Base URL of the gateway."""
    organization: str
    """URI of the organization."""
    user: str
    """URI of the user."""


class SubscriptionSpec(Parameters):
    """The webhook subscription that there should be.

    Example:
        >>> SubscriptionSpec(callback_url="https://hooks.example.com/calendly").scope
        'organization'
    """

    callback_url: str = Field(
        max_length=2000,
        description=(
            "Where Calendly delivers: an https URL that can be reached from outside. Logs and artifacts show only its "
            "host, but Prefect stores it with the run's parameters."
        ),
        json_schema_extra={
            "position": 0,
            **form_pattern(
                r"^\s*(https://|http://(127\.0\.0\.1|localhost|\[::1\])(?![^:/?\s]))[^\s#]+\s*$",
                "a URL that begins with https",
            ),
        },
    )
    scope: WebhookScope = Field(
        default="organization",
        description="Whose events: the whole organization's (needs an owner or admin), your own, or a group's.",
        json_schema_extra={"position": 2},
    )
    group: Annotated[str | None, BeforeValidator(empty_is_none)] = Field(
        default=None,
        validate_default=True,
        max_length=200,
        description="With scope group, and only then: the group's Calendly URI or uuid.",
        json_schema_extra=optional_form_field(3),
    )
    events: tuple[WebhookEvent, ...] = Field(
        default=("invitee.created", "invitee.canceled"),
        validate_default=True,
        max_length=50,
        description=(
            "What to deliver. routing_form_submission.created needs scope organization, meeting_recap events need "
            "scope user."
        ),
        # Not `min_length`: together with a misspelled name it would say a second, misleading thing.
        json_schema_extra={"position": 1, "minItems": 1},
    )
    signing_key_block: Annotated[BlockName | None, BeforeValidator(empty_is_none)] = Field(
        default=None,
        description=(
            "Name of the saved Secret block that holds the signing key; never the key itself. If there is no such "
            "block, a key is made and saved there."
        ),
        json_schema_extra=optional_form_field(4),
    )
    rotate_key_after_days: Annotated[int | None, Field(ge=1, le=3650)] = Field(
        default=None,
        validate_default=True,
        description=(
            "Make a new signing key when the current one is this many days old. The old one is accepted for two more "
            "days. Empty: never."
        ),
        json_schema_extra=optional_form_field(5),
    )
    check_receiver: bool = Field(
        default=False,
        validate_default=True,
        description=(
            "Before subscribing, send a signed ping to the URL and make sure that this package's receiver answers. "
            "This shows that the receiver can be reached from where the flow runs."
        ),
        json_schema_extra={"position": 6},
    )
    backfill: bool = Field(
        default=True,
        description=(
            "Emit events for bookings that were not delivered while there was no working subscription, up to 6 days "
            "back. With scope organization or user."
        ),
        json_schema_extra={"position": 7},
    )
    notify: Notifier = Field(
        default=None,
        description=(
            "Type and name of a saved notification block, such as slack-webhook/ops: gets a message when something "
            "was changed or has failed."
        ),
        json_schema_extra=optional_form_field(8),
    )

    @field_validator("callback_url")
    @classmethod
    def _is_https(cls, url: str) -> str:
        return checked_callback_url(url.strip())

    # Pydantic validates fields in their order: what a validator reads of `info.data` must be declared above it.

    @field_validator("group")
    @classmethod
    def _goes_with_the_scope(cls, group: str | None, info: ValidationInfo) -> str | None:
        if "scope" in info.data and (group is not None) != (info.data["scope"] == "group"):
            raise ValueError("is needed with scope group, and only then")
        return None if group is None else uri_of(group, "groups", "group")

    @field_validator("events")
    @classmethod
    def _are_available_in_the_scope(cls, events: tuple[WebhookEvent, ...], info: ValidationInfo) -> tuple[str, ...]:
        return tuple(checked_events(events, info.data["scope"])) if "scope" in info.data else events

    @field_validator("rotate_key_after_days", "check_receiver")
    @classmethod
    def _needs_a_key(cls, value: int | bool | None, info: ValidationInfo) -> int | bool | None:
        if value and info.data.get("signing_key_block") is None:
            raise ValueError("needs signing_key_block: name a Secret block, which is made if there is none")
        return value

    @property
    def host(self) -> str:
        """The host that Calendly delivers to."""
        return urlsplit(self.callback_url).netloc

    @property
    def masked_url(self) -> str:
        """The callback URL as logs may show it: path and query often hold a secret; the hash tells two URLs apart."""
        digest = hashlib.sha256(self.callback_url.encode()).hexdigest()
        return f"{urlsplit(self.callback_url).scheme}://{self.host}/… (sha256 {digest[:8]})"

    @property
    def is_placeholder(self) -> bool:
        """Whether the callback URL is one of documentation, where nobody receives anything."""
        host = (urlsplit(self.callback_url).hostname or "").rstrip(".")
        return f".{host}".endswith(tuple(f".{domain}" for domain in _RESERVED_DOMAINS))

    def check_callback(self, gateway_url: str) -> None:
        """Refuse a callback URL that is a placeholder, unless the gateway is a sandbox.

        Args:
            gateway_url: Base URL of the gateway; one without TLS is within a private network, and so a sandbox.

        Raises:
            ValueError: It is a placeholder.
        """
        if self.is_placeholder and gateway_url.startswith("https:"):
            raise ValueError(
                f"callback_url: {self.host} is a placeholder, and nothing was subscribed; write the https URL of your "
                "own receiver"
            )

    @property
    def backfill_scope(self) -> Literal["user", "organization"] | None:
        """Whose missed bookings to backfill; None if none are to be."""
        about_bookings = any(name.startswith(("invitee.", "invitee_no_show.")) for name in self.events)
        return self.scope if self.backfill and about_bookings and self.scope != "group" else None

    def state_name(self, account: Account) -> str:
        """Return the name under which runs remember this subscription: of this account, owner and URL, and no other."""
        owner = {"organization": account.organization, "user": account.user, "group": self.group}[self.scope]
        return state_name("webhook", account.gateway, account.organization, self.scope, owner, self.callback_url)
