"""A notifier is checked first, and whatever it does later fails nothing."""

import asyncio
import logging
from collections.abc import Iterator
from typing import ClassVar
from urllib.parse import urlsplit

import pytest
from prefect import flow
from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.notifications import MattermostWebhook

from prefect_calendly.runs import notifications
from prefect_calendly.runs.notifications import FAILED_KEY, notify
from tests.flows.conftest import Receiver, artifact

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


async def test_what_apprise_sends_to_is_in_no_log(recorder_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """It sends in a thread of its own, and tells its logger the URL, of which a part is the secret."""
    place = urlsplit(recorder_url)
    block = MattermostWebhook(hostname="127.0.0.1", port=place.port, secure=False, token="a1b2c3d4e5f6a7b8c9d0e1f2a3")  # type: ignore[arg-type]
    await block.asave("chat", overwrite=True)
    for name in ("", "apprise", "urllib3.connectionpool"):
        caplog.set_level(logging.DEBUG, name)

    @flow
    async def say() -> str | None:
        return await notify("mattermost-webhook/chat", "Dinner", "is ready")

    assert await say() is None
    assert "a1b2c3d4" not in caplog.text
    assert urls_are_logged(caplog)


def urls_are_logged(caplog: pytest.LogCaptureFixture) -> bool:
    """Whether the loggers tell what others do; only of ours they do not."""
    logging.getLogger("urllib3.connectionpool").debug("GET %s", "https://other.example")
    return "https://other.example" in caplog.text


@pytest.fixture
def recorder_url() -> Iterator[str]:
    receiver = Receiver()
    yield receiver.url
    assert len(receiver.messages) == 1
    receiver.stop()
