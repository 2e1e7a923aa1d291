"""The signing keys of webhook subscriptions: kept in a Secret block, and replaced without losing a delivery.

Several subscriptions may share a block, such as those of two organizations with one receiver. The block holds the keys
that the receiver accepts, and which of them each subscription was made with.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Collection, Mapping
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
"""How long a key stays accepted when no subscription has it any longer: Calendly repeats a delivery for 24 hours."""

# A run that is started twice, or again, wants one new key.
_MIN_AGE_TO_ROTATE: Final = timedelta(hours=1)
# In blocks of an older format, which does not say whose the subscription is.
_UNKNOWN_ACCOUNT: Final = ""
_TIME: Final = TypeAdapter(AwareDatetime)


@dataclass(frozen=True, slots=True)
class SignedSubscription:
    """A subscription, and the key that it was made with."""

    uuid: str
    key: str
    """Fingerprint of the key."""
    subscribed_at: datetime


@dataclass(frozen=True)
class KeyRing:
    """The keys that the receiver accepts, and the subscriptions that were made with them."""

    keys: tuple[SecretStr, ...] = field(repr=False)
    """The newest first."""
    made_at: datetime | None = None
    """When the newest key was made; None for one that somebody else has made."""
    subscriptions: Mapping[str, SignedSubscription] | None = field(default_factory=dict)
    """By `SubscriptionSpec.state_name`. None in a block that somebody else has saved: nobody knows who has its key."""

    @classmethod
    def new(cls, now: datetime) -> KeyRing:
        """Return a ring with a new key, which no subscription has yet."""
        return cls((_new_key(),), made_at=now)

    @classmethod
    def parse(cls, value: Any) -> KeyRing:
        """Read a block's value: one key as text, `{"keys": […]}`, or what `as_value` has made, now or formerly.

        Raises:
            ValueError: It is something else; the text shows nothing of it.
        """
        if isinstance(value, str) and not value.strip():
            raise ValueError("it must hold a text that is not empty")
        keys = keys_of(value)
        if not isinstance(value, dict) or not value.keys() & {"subscriptions", "subscription"}:
            return cls(keys, subscriptions=None)
        made_at = None if value.get("made_at") is None else _TIME.validate_python(value["made_at"])
        if "subscriptions" in value:
            return cls(
                keys, made_at, {name: _parse_subscription(each) for name, each in value["subscriptions"].items()}
            )
        if value["subscription"] is None:
            return cls(keys, made_at)
        former = {"uuid": value["subscription"], "subscribed_at": value["subscribed_at"], "key": fingerprint(keys[0])}
        return cls(keys, made_at, {_UNKNOWN_ACCOUNT: _parse_subscription(former)})

    def as_value(self) -> dict[str, Any]:
        """Return the ring as the block holds it."""
        value: dict[str, Any] = {"keys": [key.get_secret_value() for key in self.keys]}
        if self.subscriptions is not None:
            value["made_at"] = self.made_at.isoformat() if self.made_at else None
            value["subscriptions"] = {
                name: {"uuid": each.uuid, "key": each.key, "subscribed_at": each.subscribed_at.isoformat()}
                for name, each in self.subscriptions.items()
            }
        return value

    @property
    def newest(self) -> SecretStr:
        """The key that new subscriptions get."""
        return self.keys[0]

    def fits(self, uuid: str) -> bool:
        """Say whether a subscription was made with the newest key, as far as anybody knows."""
        if self.subscriptions is None:
            return True
        newest = fingerprint(self.newest)
        return any(each.uuid == uuid and each.key == newest for each in self.subscriptions.values())

    def is_due(self, after_days: int | None, now: datetime, *, rotate_now: bool) -> bool:
        """Say whether a new key is to be made.

        Args:
            after_days: How old the newest key may become; None for any age. One of unknown age is too old.
            now: The time.
            rotate_now: Whether somebody has asked for a new key.
        """
        if self.subscriptions is not None:
            newest = fingerprint(self.newest)
            if all(each.key != newest for each in self.subscriptions.values()):
                return False  # no subscription has the newest one yet
        if self.made_at is None:
            return rotate_now or after_days is not None
        age = now - self.made_at
        too_old = after_days is not None and age >= timedelta(days=after_days)
        return too_old or (rotate_now and age >= _MIN_AGE_TO_ROTATE)

    def with_new_key(self, now: datetime) -> KeyRing:
        """Return the ring with a new key; the old ones stay accepted."""
        return KeyRing((_new_key(), *self.keys), now, self.subscriptions or {})

    def with_subscription(
        self, name: str, uuid: str, key: SecretStr, now: datetime, *, deleted: Collection[str] = ()
    ) -> KeyRing:
        """Return the ring with a subscription that was just made.

        Args:
            name: Its `SubscriptionSpec.state_name`; it takes the place of the one of that name.
            uuid: Its uuid.
            key: The key that it was made with; it becomes accepted if another run has left it out.
            now: The time.
            deleted: uuids of subscriptions that are gone.
        """
        keys = self.keys if key in self.keys else (*self.keys, key)
        if self.subscriptions is None:
            return replace(self, keys=keys)
        others = {other: each for other, each in self.subscriptions.items() if each.uuid not in (uuid, *deleted)}
        made = SignedSubscription(uuid, fingerprint(key), now)
        return replace(self, keys=keys, subscriptions={**others, name: made})

    def with_owner(self, name: str, uuid: str) -> KeyRing:
        """Return the ring with an owner for a subscription of the older format, if it has this uuid."""
        former = (self.subscriptions or {}).get(_UNKNOWN_ACCOUNT)
        if former is None or former.uuid != uuid:
            return self
        return self.with_subscription(name, uuid, self._key_of(former), former.subscribed_at)

    def _key_of(self, subscription: SignedSubscription) -> SecretStr:
        return next(key for key in self.keys if fingerprint(key) == subscription.key)

    def pruned(self, now: datetime) -> KeyRing:
        """Return the ring without keys that no delivery can be signed with any longer."""
        if not self.subscriptions:
            return self
        last = max(each.subscribed_at for each in self.subscriptions.values())
        if now - last < ACCEPTED_AFTER_REPLACEMENT:
            return self
        used = {fingerprint(self.newest), *(each.key for each in self.subscriptions.values())}
        keys = tuple(key for key in self.keys if fingerprint(key) in used)
        return self if keys == self.keys else replace(self, keys=keys)


def fingerprint(key: SecretStr) -> str:
    """Return what tells keys apart without showing them."""
    return hashlib.sha256(key.get_secret_value().encode()).hexdigest()[:16]


def _new_key() -> SecretStr:
    return SecretStr(secrets.token_urlsafe(32))


def _parse_subscription(value: Any) -> SignedSubscription:
    uuid, key = value["uuid"], value["key"]
    if not isinstance(uuid, str) or not isinstance(key, str):
        raise TypeError
    return SignedSubscription(uuid, key, _TIME.validate_python(value["subscribed_at"]))


# The block


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
    except (ValueError, TypeError, KeyError, AttributeError) as error:
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
    if keys is None:
        keys = KeyRing.new(now)
        if dry_run or await _write(block, keys.as_value(), overwrite=False):
            return keys, "made"
        keys = await load_keys(block) or keys  # another run has just made it
    if not keys.is_due(rotate_after_days, now, rotate_now=rotate_now):
        return keys, None
    keys = keys.with_new_key(now)
    if not dry_run:
        await _write(block, keys.as_value())
    return keys, "replaced"


async def update_keys(block: str, keys: KeyRing, change: Callable[[KeyRing], KeyRing]) -> KeyRing:
    """Change the keys as they are saved now: runs of other subscriptions may have changed them meanwhile.

    Args:
        block: Name of the Secret block.
        keys: What to change if the block is gone.
        change: Returns the changed keys.

    Returns:
        The changed keys.
    """
    saved = await load_keys(block)
    changed = change(saved or keys)
    if changed != saved:
        await _write(block, changed.as_value())
    return changed


async def _read(block: str) -> dict[str, Any] | None:
    async with get_client() as client:
        try:
            document = await client.read_block_document_by_name(block, "secret", include_secrets=True)
        except ObjectNotFound:
            return None
    return {"value": document.data.get("value")}


async def _write(block: str, value: dict[str, Any], *, overwrite: bool = True) -> bool:
    """Save a block; return False if there is one already and it is not to be overwritten."""
    secret: Secret[Any] = Secret(value=value)
    try:
        await secret.asave(block, overwrite=overwrite)
    except ValueError:
        if overwrite:
            raise
        return False
    return True
