"""The signing key of a webhook subscription: kept in a Secret block, and replaced without losing a delivery."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from pydantic import AwareDatetime, SecretStr, TypeAdapter

from prefect_calendly.webhooks.keys import keys_of

ACCEPTED_AFTERWARDS: Final = timedelta(days=2)
"""How long an old key stays accepted: Calendly repeats a delivery for 24 hours."""

# Who asks for a new key twice, or whose run is started again, wants one.
_AT_MOST_EVERY: Final = timedelta(hours=1)
_TIME: Final = TypeAdapter(AwareDatetime)


@dataclass(frozen=True)
class KeyRing:
    """The keys that the receiver accepts, and which subscription was made with the newest one."""

    keys: tuple[SecretStr, ...] = field(repr=False)
    """The newest first."""
    made_at: datetime | None = None
    """When the newest key was made; None for one that somebody else has made."""
    subscription: str | None = None
    """uuid of the subscription that was made with the newest key; None as long as there is none."""
    subscribed_at: datetime | None = None
    """When that subscription was made."""
    ours: bool = True
    """False for a block that somebody else has saved: nobody knows which subscription has its key."""

    @classmethod
    def new(cls, now: datetime, *old: SecretStr) -> KeyRing:
        """Return one with a new key; the old ones stay accepted."""
        return cls((SecretStr(secrets.token_urlsafe(32)), *old), made_at=now)

    @classmethod
    def parse(cls, value: Any) -> KeyRing:
        """Read a block's value: one key as text, `{"keys": […]}`, or what `as_value` has made.

        Raises:
            ValueError: It is something else; the text holds nothing of it.
        """
        if isinstance(value, str) and not value.strip():
            raise ValueError("it must hold a text that is not empty")
        keys = keys_of(value)
        if not isinstance(value, dict) or "subscription" not in value:
            return cls(keys, ours=False)
        made_at, subscribed_at = (_time(value.get(name)) for name in ("made_at", "subscribed_at"))
        uuid = value["subscription"]
        return cls(keys, made_at, uuid if isinstance(uuid, str) else None, subscribed_at)

    def as_value(self) -> dict[str, Any]:
        """Return it as the block holds it."""
        return {
            "keys": [key.get_secret_value() for key in self.keys],
            "made_at": self.made_at.isoformat() if self.made_at else None,
            "subscription": self.subscription,
            "subscribed_at": self.subscribed_at.isoformat() if self.subscribed_at else None,
        }

    @property
    def newest(self) -> SecretStr:
        """The key that new subscriptions get."""
        return self.keys[0]

    def fits(self, uuid: str) -> bool:
        """Say whether a subscription was made with the newest key, as far as one can tell."""
        return not self.ours or uuid == self.subscription

    def is_due(self, after_days: int | None, now: datetime, *, at_once: bool) -> bool:
        """Say whether a new key is to be made.

        Args:
            after_days: How old the newest key may become; None for any age. One of unknown age is too old.
            now: The time.
            at_once: Somebody has asked for it.
        """
        if self.ours and self.subscription is None:
            return False  # the newest one was never used
        if self.made_at is None:
            return at_once or after_days is not None
        age = now - self.made_at
        return (at_once and age >= _AT_MOST_EVERY) or (after_days is not None and age >= timedelta(days=after_days))

    def renewed(self, now: datetime) -> KeyRing:
        """Return it with a new key."""
        return KeyRing.new(now, *self.keys)

    def used_by(self, uuid: str, now: datetime) -> KeyRing:
        """Return it with the subscription that was made with the newest key."""
        return replace(self, subscription=uuid, subscribed_at=now) if self.ours else self

    def pruned(self, now: datetime) -> KeyRing:
        """Return it without keys that no delivery can be signed with any more."""
        if len(self.keys) == 1 or self.subscribed_at is None or now - self.subscribed_at < ACCEPTED_AFTERWARDS:
            return self
        return replace(self, keys=self.keys[:1])


def _time(value: Any) -> datetime | None:
    return None if value is None else _TIME.validate_python(value)


async def load(block: str) -> KeyRing | None:
    """Return what a Secret block holds; None if there is no such block.

    Raises:
        ValueError: It holds something else than signing keys; the text holds nothing of it.
    """
    async with get_client() as client:
        try:
            found = await client.read_block_document_by_name(block, "secret", include_secrets=True)
        except ObjectNotFound:
            return None
    problem = "it is not as this flow writes it"
    try:
        return KeyRing.parse(found.data.get("value"))
    except ValueError as error:
        problem = str(error) if type(error) is ValueError else problem
    del found  # nor may a traceback with variables hold anything of it
    raise ValueError(f"signing_key_block: of the Secret block {block!r}: {problem}")


async def save(block: str, ring: KeyRing) -> None:
    """Save it: the receiver takes it up by itself."""
    secret: Secret[Any] = Secret(value=ring.as_value())
    await secret.asave(block, overwrite=True)


Change = Literal["made", "replaced"]


async def prepared(
    block: str, rotate_after_days: int | None, *, at_once: bool, dry_run: bool
) -> tuple[KeyRing, Change | None]:
    """Return the keys to subscribe with; what is new about them is saved before anybody uses it.

    Args:
        block: Name of the Secret block.
        rotate_after_days: How old the key may become; None for any age.
        at_once: Make a new one now.
        dry_run: Save nothing.

    Raises:
        ValueError: The block cannot be used.
    """
    now, ring = datetime.now(UTC), await load(block)
    change: Change | None = None
    if ring is None:
        ring, change = KeyRing.new(now), "made"
    elif ring.is_due(rotate_after_days, now, at_once=at_once):
        ring, change = ring.renewed(now), "replaced"
    if change is not None and not dry_run:
        await save(block, ring)
    return ring, change
