"""The signing keys that the receiver accepts: from its environment, and from a Secret block that may change."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import SecretStr

from prefect_calendly.webhooks.connection import PrefectConnection
from prefect_calendly.webhooks.errors import PrefectUnavailableError

logger = logging.getLogger(__name__)

_RELOAD_SECONDS: Final = 60.0


def keys_of(value: Any) -> tuple[SecretStr, ...]:
    """Return the signing keys in a Secret block's value.

    Args:
        value: One key as text, or `{"keys": ["newest", "older"]}`; further members are ignored.

    Returns:
        The keys, the newest first.

    Raises:
        ValueError: It is something else; the text shows nothing of it.

    Example:
        >>> len(keys_of({"keys": ["whsec-new", "whsec-old"]}))
        2
    """
    keys = value.get("keys") if isinstance(value, Mapping) else [value]
    if not isinstance(keys, list) or not keys or not all(isinstance(key, str) and key for key in keys):
        raise ValueError('it must hold a signing key as text, or {"keys": ["newest", "older"]}')
    return tuple(SecretStr(key) for key in keys)


class SigningKeys:
    """The keys, kept up to date.

    Args:
        given: Keys that stay.
        block: Name of the saved Secret block, which may appear or change at any time.
        connection: Where the block is.
        pause_seconds: Least pause between two loads: any request can cause one.
    """

    def __init__(
        self,
        given: Iterable[SecretStr],
        block: str | None,
        connection: PrefectConnection,
        *,
        pause_seconds: float,
    ) -> None:
        self._given = tuple(given)
        self._of_block: tuple[SecretStr, ...] = ()
        self._block = block
        self._connection = connection
        self._pause = pause_seconds
        self._reloaded_at = float("-inf")
        self._reloading: asyncio.Task[bool] | None = None
        self._state = ""

    @property
    def current(self) -> tuple[SecretStr, ...]:
        """All keys that are accepted now; none as long as there is no block."""
        return self._given + self._of_block

    async def keep_up(self) -> None:
        """Reload the block from time to time, and more often as long as there is no key."""
        while self._block is not None:
            await self.reload()
            await asyncio.sleep(_RELOAD_SECONDS if self.current else self._pause)

    async def reload(self) -> bool:
        """Load the block again, unless that was done less than `pause_seconds` ago.

        Returns:
            Whether the keys have changed.
        """
        if self._reloading is None or self._reloading.done():
            if self._block is None or time.monotonic() < self._reloaded_at + self._pause:
                return False
            self._reloaded_at = time.monotonic()
            self._reloading = asyncio.create_task(self._load(self._block))
        # Several may wait for it: one of them that is canceled must not stop it.
        return await asyncio.shield(self._reloading)

    async def _load(self, block: str) -> bool:
        before = self._of_block
        try:
            value = await self._connection.secret(block)
            # The keys of a deleted block are no longer accepted. While Prefect is away, the known keys are.
            self._of_block = () if value is None else keys_of(value)
            self._log("is not there yet" if value is None else "is loaded", logging.INFO)
        except PrefectUnavailableError:
            self._log("cannot be read: Prefect does not answer", logging.WARNING)
        except ValueError as error:
            self._log(f"cannot be used: {error}", logging.ERROR)
        except Exception as error:  # whatever it is, the known keys are still accepted
            self._log(f"cannot be read ({type(error).__name__})", logging.ERROR)
        return self._of_block != before

    def _log(self, state: str, level: int) -> None:
        if state != self._state:
            self._state = state
            logger.log(level, "the Secret block %s %s", self._block, state)
