"""A notifier is checked first, and whatever it does later fails nothing."""

import asyncio
from typing import ClassVar

import pytest
from prefect import flow
from prefect.blocks.abstract import NotificationBlock

from flows import notifications
from flows.notifications import FAILED_KEY, notify
from tests.flows.conftest import artifact

pytestmark = pytest.mark.usefixtures("prefect_server")


class Silent(NotificationBlock):
    """A notification block that never comes to an end."""

    _block_type_slug: ClassVar[str | None] = "silent-of-tests"

    async def notify(self, body: str, subject: str | None = None) -> None:  # type: ignore[override]
        await asyncio.Event().wait()


async def test_a_notifier_that_hangs_is_given_up_and_what_was_to_be_said_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(notifications, "_LONGEST_SECONDS", 0.1)
    await Silent().asave("ops", overwrite=True)

    @flow
    async def say() -> str | None:
        return await notify("silent-of-tests/ops", "Dinner", "is *ready*")

    assert await say() == "The notification through silent-of-tests/ops failed (TimeoutError)."
    assert "> **Dinner**\n>\n> is \\*ready\\*" in await artifact(FAILED_KEY)
