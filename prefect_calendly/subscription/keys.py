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

KeyChange = Literal["made", "replaced"]

ACCEPTED_AFTER_REPLACEMENT: Final = timedelta(days=2)
"""How long an old key stays accepted: Calendly repeats a delivery for 24 hours."""

# Asked for twice, or asked for by a run that is started again, it is still one new key that is wanted.
_LEAST_AGE_TO_ROTATE: Final = timedelta(hours=1)
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

    def is_due(self, after_days: int | None, now: datetime, *, rotate_now: bool) -> bool:
        """Say whether a new key is to be made.

        Args:
            after_days: How old the newest key may become; None for any age. One of unknown age is too old.
            now: The time.
            rotate_now: Whether somebody has asked for a new key.
        """
        if self.ours and self.subscription is None:
            return False  # the newest one was never used
        if self.made_at is None:
            return rotate_now or after_days is not None
        age = now - self.made_at
        return (rotate_now and age >= _LEAST_AGE_TO_ROTATE) or (
            after_days is not None and age >= timedelta(days=after_days)
        )

    def renewed(self, now: datetime) -> KeyRing:
        """Return it with a new key."""
        return KeyRing.new(now, *self.keys)

    def used_by(self, uuid: str, now: datetime) -> KeyRing:
        """Return it with the subscription that was made with the newest key."""
        return replace(self, subscription=uuid, subscribed_at=now) if self.ours else self

    def pruned(self, now: datetime) -> KeyRing:
        """Return it without keys that no delivery can be signed with any more."""
        if len(self.keys) == 1 or self.subscribed_at is None or now - self.subscribed_at < ACCEPTED_AFTER_REPLACEMENT:
            return self
        return replace(self, keys=self.keys[:1])


def _time(value: Any) -> datetime | None:
    return None if value is None else _TIME.validate_python(value)


async def load_keys(block: str) -> KeyRing | None:
    """Return the keys that a Secret block holds; None if there is no such block.

    Args:
        block: Name of the Secret block.

    Raises:
        ValueError: It holds something other than signing keys; the text shows nothing of it.
    """
    found = await _read(block)
    if found is None:
        return None
    problem = "it is not as this flow writes it"
    try:
        return KeyRing.parse(found["value"])
    except ValueError as error:
        problem = str(error) if type(error) is ValueError else problem
    del found  # a traceback that shows variables must not show it either
    raise ValueError(f"signing_key_block: the Secret block {block!r} cannot be used: {problem}")


async def check_keys(block: str | None, *, rotate_now: bool) -> None:
    """Make sure that the keys can be used, before anything is asked or changed.

    Args:
        block: Name of the Secret block; None for a subscription without a key.
        rotate_now: Whether a new key is to be made now.

    Raises:
        ValueError: The block cannot be used, or there is a key to rotate and no block.
    """
    if block is not None:
        await load_keys(block)
    elif rotate_now:
        raise ValueError("rotate_key_now needs signing_key_block: name the Secret block of the key")


async def save_keys(block: str, keys: KeyRing) -> None:
    """Save the keys in a Secret block; receivers take them up by themselves."""
    await _write(block, keys.as_value())


async def prepare_keys(
    block: str, rotate_after_days: int | None, *, rotate_now: bool, dry_run: bool
) -> tuple[KeyRing, KeyChange | None]:
    """Return the keys to subscribe with; a new one is saved before anybody uses it.

    Args:
        block: Name of the Secret block.
        rotate_after_days: How old the newest key may become; None for any age.
        rotate_now: Make a new one now.
        dry_run: Save nothing.

    Raises:
        ValueError: The block cannot be used.
    """
    now, keys = datetime.now(UTC), await load_keys(block)
    change: KeyChange | None = None
    if keys is None:
        keys, change = KeyRing.new(now), "made"
    elif keys.is_due(rotate_after_days, now, rotate_now=rotate_now):
        keys, change = keys.renewed(now), "replaced"
    if change is not None and not dry_run:
        await save_keys(block, keys)
    return keys, change


async def _read(block: str) -> dict[str, Any] | None:
    async with get_client() as client:
        try:
            document = await client.read_block_document_by_name(block, "secret", include_secrets=True)
        except ObjectNotFound:
            return None
    return {"value": document.data.get("value")}


async def _write(block: str, value: dict[str, Any]) -> None:
    secret: Secret[Any] = Secret(value=value)
    await secret.asave(block, overwrite=True)
