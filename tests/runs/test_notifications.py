"""A notifier is checked first, and whatever it does later fails nothing."""

from __future__ import annotations

import asyncio
import logging
from typing import ClassVar
from urllib.parse import urlsplit

import pytest
from prefect import flow
from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.notifications import MattermostWebhook
from prefect.blocks.system import Secret

from prefect_calendly.runs.markdown import escape
from prefect_calendly.runs.notifications import FAILED_KEY, check_notifier, notify, notify_on_failure
from tests.inline import Inline
from tests.notifiers import RECORDER, Receiver


class Silent(NotificationBlock):
    """A notification block that never returns."""

    _block_type_slug: ClassVar[str | None] = "silent-of-tests"

    async def notify(self, body: str, subject: str | None = None) -> None:
        await asyncio.Event().wait()


async def test_a_notifier_that_hangs_is_given_up_and_its_message_is_kept(inline: Inline) -> None:
    inline.blocks["silent-of-tests/ops"] = Silent()
    problem = await notify("silent-of-tests/ops", "Dinner", "is *ready*", timeout_seconds=0.05)
    assert problem == "The notification through silent-of-tests/ops failed (TimeoutError)."
    assert f"> **Dinner**\n>\n> {escape('is *ready*')}" in inline.artifact(FAILED_KEY)


async def test_a_far_end_that_refuses_is_reported_without_the_secret_url(
    inline: Inline, receiver: Receiver, run_logs: list[str]
) -> None:
    receiver.status = 500
    problem = await notify(receiver.block, "Dinner", "is ready")
    assert problem is not None
    for text in (problem, inline.artifact(FAILED_KEY), "\n".join(run_logs)):
        assert receiver.block in text
        assert receiver.secret not in text
        assert receiver.url not in text


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("slack-webhook/nowhere", "there is no saved block 'slack-webhook/nowhere'; create it in the UI"),
        ("secret/no-notifier", "the block 'secret/no-notifier' is not for notifications"),
    ],
)
async def test_a_notifier_that_cannot_be_used_is_refused_with_what_to_do(
    reference: str, words: str, inline: Inline
) -> None:
    inline.blocks["secret/no-notifier"] = Secret(value="x")
    with pytest.raises(ValueError, match=words):
        await check_notifier(reference)


async def test_without_a_notifier_nothing_is_sent(recorder: list[tuple[str | None, str]]) -> None:
    await check_notifier(None)
    assert await notify(None, "Dinner", "is ready") is None
    assert recorder == []


async def test_an_error_is_sent_masked_and_raised_on(recorder: list[tuple[str | None, str]]) -> None:
    with pytest.raises(LookupError):
        async with notify_on_failure(RECORDER, "It failed", "Nothing was done."):
            raise LookupError("no booking of jane@shop.example")
    ((subject, body),) = recorder
    assert subject == "It failed"
    assert body.startswith("Nothing was done. LookupError: no booking of ")
    assert "jane@" not in body


@pytest.mark.usefixtures("prefect_server")
async def test_a_flow_run_sends_once_with_a_link_and_what_apprise_sends_to_is_in_no_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Apprise sends in a thread of its own, and gives its logger the URL, which contains the secret."""
    far_end = Receiver()
    try:
        place = urlsplit(far_end.url)
        token = "a1b2c3d4e5f6a7b8c9d0e1f2a3"
        block = MattermostWebhook(hostname="127.0.0.1", port=place.port, secure=False, token=token)
        await block.asave("chat", overwrite=True)
        for name in ("", "apprise", "urllib3.connectionpool"):
            caplog.set_level(logging.DEBUG, name)

        @flow
        async def send() -> str | None:
            await check_notifier("mattermost-webhook/chat")
            return await notify("mattermost-webhook/chat", "Dinner", "is ready")

        assert await send() is None
    finally:
        far_end.stop()
    assert len(far_end.messages) == 1
    assert "a1b2c3d4" not in caplog.text
    # Only our own requests are hidden.
    logging.getLogger("urllib3.connectionpool").debug("GET %s", "https://other.example")
    assert "https://other.example" in caplog.text
