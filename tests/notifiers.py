"""Notification blocks that tests can look into."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest
from prefect.blocks.abstract import NotificationBlock


class Recorder(NotificationBlock):
    """A notification block that remembers what it has sent."""

    _block_type_slug: ClassVar[str | None] = "recorder-of-tests"
    sent: ClassVar[list[tuple[str | None, str]]] = []

    async def notify(self, body: str, subject: str | None = None) -> None:  # type: ignore[override]
        self.sent.append((subject, body))


RECORDER = "recorder-of-tests/ops"


@pytest.fixture
def recorder(request: pytest.FixtureRequest) -> list[tuple[str | None, str]]:
    """Subjects and bodies of what is sent through the block RECORDER: inline, or in a test with `prefect_server`."""
    if "prefect_server" in request.fixturenames:
        request.getfixturevalue("prefect_server")
        Recorder().save("ops", overwrite=True)
    else:
        request.getfixturevalue("inline").blocks[RECORDER] = Recorder()
    Recorder.sent.clear()
    return Recorder.sent


class Receiver:
    """A local HTTP server that keeps the JSON posted to it, as the far end of a Custom Webhook block."""

    block = "custom-webhook/ops"
    secret = "s3cret-of-the-webhook"

    def __init__(self) -> None:
        self.messages: list[dict[str, str]] = []
        """What was posted: `subject`, `body` and the block's secret `key`."""
        self.status = 200
        """What it answers."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(receiver.status)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hooks/0123456789"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def webhook(self) -> NotificationBlock:
        """Return the block that posts to this server, as a person enters it in the UI."""
        from prefect.blocks.notifications import CustomWebhookNotificationBlock  # imports all of apprise

        message = {"subject": "{{subject}}", "body": "{{body}}", "key": "{{key}}"}
        return CustomWebhookNotificationBlock(
            name="ops",
            url=self.url,
            json_data=message,
            secrets={"key": self.secret},  # type: ignore[arg-type]
        )

    async def save(self) -> None:
        """Save the block."""
        await self.webhook().asave(self.block.rpartition("/")[2], overwrite=True)

    def stop(self) -> None:
        """From now on connections are refused."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


@pytest.fixture
def receiver(request: pytest.FixtureRequest) -> Iterator[Receiver]:
    """What is sent through the block `receiver.block`: inline, or in a test with `prefect_server`."""
    receiver = Receiver()
    if "prefect_server" in request.fixturenames:
        request.getfixturevalue("prefect_server")
        receiver.webhook().save("ops", overwrite=True)
    else:
        request.getfixturevalue("inline").blocks[receiver.block] = receiver.webhook()
    yield receiver
    receiver.stop()
