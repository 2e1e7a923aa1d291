"""How a receiver works."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from pydantic import SecretStr

from prefect_calendly.client.identifiers import uri_of
from prefect_calendly.events.event import Payload
from prefect_calendly.webhooks.signature import Key
from prefect_calendly.webhooks.store import store_url

DEFAULT_PATH: Final = "/webhooks/calendly"
OWN_PATHS: Final = ("/healthz", "/readyz", "/metrics")
"""Paths that serve those who run the receiver."""


@dataclass(frozen=True)
class ReceiverSettings:
    """How a receiver works; every time is in seconds unless its name says otherwise.

    Args:
        signing_keys: Keys that deliveries may be signed with; several while a key is being replaced.
        signing_key_block: Name of a saved Secret block with such keys, as text or as `{"keys": [...]}`. It is loaded
            again every minute, and when a signature does not fit. As long as there is none, deliveries get 503.
        insecure: Take deliveries that are not signed. Anybody can start your flows then.
        path: Where Calendly delivers.
        store: SQLAlchemy URL of SQLite or PostgreSQL; None: `calendly-receiver.db` in Prefect's home folder.
        payload: `standard` leaves out free text, telephone numbers, links to join or cancel; `full` has all.
        organization: URI of the organization, for the events' related resources.
        name: Name of this receiver, in the events with its summaries.
        remember_days: How long deliveries are recognized when they come again, in days.
        body_seconds: How long a request's body may take.
        handover_seconds: How long Prefect may take.
        summary_seconds: Pause between two summaries.
        confirm_after_seconds: How long after an event was posted Prefect is asked whether it is there.
        confirm_every_seconds: Pause between two such questions.
        repost_after_seconds: How long after it was posted an event that is not there is posted again.
        ready_seconds: How long an answer of `/readyz` holds before the parts are asked again.
        key_pause_seconds: Least pause between two loads of the Secret block: any request can cause one.
        lock_seconds: How long the store may be locked by others.
        max_waiting: Deliveries that may be handed over at the same time; more get 503.
        max_large_bodies: Bodies of more than 64 KiB that may be read at the same time; more get 503.

    Raises:
        ValueError: A setting is out of range, or two do not go together.

    Example:
        >>> ReceiverSettings(signing_key_block="calendly-webhook-key").path
        '/webhooks/calendly'
    """

    signing_keys: Iterable[Key] = ()
    signing_key_block: str | None = None
    insecure: bool = False
    path: str = DEFAULT_PATH
    store: str | None = field(default=None, repr=False)
    payload: Payload = "standard"
    organization: str | None = None
    name: str = "default"
    remember_days: float = 30
    body_seconds: float = 10
    handover_seconds: float = 8
    summary_seconds: float = 60
    confirm_after_seconds: float = 10
    confirm_every_seconds: float = 3
    repost_after_seconds: float = 60
    ready_seconds: float = 1
    key_pause_seconds: float = 2
    lock_seconds: float = 5
    max_waiting: int = 2_000
    max_large_bodies: int = 32

    def __post_init__(self) -> None:
        keys = tuple(key if isinstance(key, SecretStr) else SecretStr(key) for key in self.signing_keys)
        object.__setattr__(self, "signing_keys", keys)
        if not all(key.get_secret_value() for key in keys):
            raise ValueError("a signing key must not be empty")
        signed = bool(keys) or self.signing_key_block is not None
        if signed and self.insecure:
            raise ValueError("there is a signing key and insecure is set: use one of them")
        if not signed and not self.insecure:
            raise ValueError(
                "there is no signing key: set CALENDLY_WEBHOOK_SIGNING_KEY or name a Secret block (signing_key_block); "
                "insecure takes deliveries that are not signed, by anybody"
            )
        if self.signing_key_block is not None and not re.fullmatch(r"[a-z0-9-]{1,100}", self.signing_key_block):
            raise ValueError("signing_key_block must be the name of a Secret block, such as calendly-webhook-key")
        if not re.fullmatch(r"/[A-Za-z0-9._~/-]*[A-Za-z0-9._~-]", self.path) or self.path in OWN_PATHS:
            raise ValueError(f"path must be one such as {DEFAULT_PATH}, and none of {', '.join(OWN_PATHS)}")
        if not re.fullmatch(r"[a-z0-9-]{1,64}", self.name):
            raise ValueError("name must be of lower-case letters, digits and dashes")
        if self.payload not in ("standard", "full"):
            raise ValueError("payload must be standard or full")
        for name in ("remember_days", "body_seconds", "handover_seconds", "summary_seconds", "confirm_after_seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be more than 0")
        if self.remember_days < 2:
            raise ValueError("remember_days must be at least 2: Calendly repeats a delivery for 24 hours")
        if self.organization is not None:
            object.__setattr__(self, "organization", uri_of(self.organization, "organizations", "organization"))
        if self.store is not None:
            store_url(self.store)
