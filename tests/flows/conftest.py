"""What the tests of the flows share: the sandbox's world as seen by somebody who knows nothing of our client."""

import contextlib
import json
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import httpx
import pytest
from prefect.artifacts import Artifact
from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.utilities.schema_tools.validation import validate
from pydantic import BaseModel

from prefect_calendly.runs import state
from prefect_calendly.sandbox import Sandbox
from tests.inline import Inline

ORGANIZATION = "https://api.calendly.com/organizations/BBBBBBBBBBBBBBBB"
ALICE = "https://api.calendly.com/users/AAAAAAAAAAAAAAAA"


class World:
    """The sandbox's Calendly by plain httpx, page by page."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._http = httpx.Client(
            base_url=sandbox.gateway_url, headers={"Authorization": f"Bearer {sandbox.api_key}"}, trust_env=False
        )

    def listing(self, path: str, **params: Any) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        while True:
            answer = self._http.get(path, params={"count": 100, **params}).raise_for_status().json()
            items += answer["collection"]
            if not (token := answer["pagination"]["next_page_token"]):
                return items
            params["page_token"] = token

    def events(self, **params: Any) -> list[dict[str, Any]]:
        """Scheduled events, each with all its `invitees`."""
        events = self.listing("/scheduled_events", **params)
        for event in events:
            event["invitees"] = self.listing(f"/scheduled_events/{uuid_of(event)}/invitees")
        return events

    def cancel(self, uuid: str, reason: str | None = None) -> None:
        body = {} if reason is None else {"reason": reason}
        self._http.post(f"/scheduled_events/{uuid}/cancellation", json=body).raise_for_status()


def uuid_of(resource: dict[str, Any] | str) -> str:
    uri = resource if isinstance(resource, str) else resource["uri"]
    return str(uri).rpartition("/")[2]


def form_errors(model: type[BaseModel], **entered: Any) -> list[str]:
    """What Prefect's form says of what a person has entered: its server knows the schema only, no validator of ours."""
    return [error.message for error in validate(entered, model.model_json_schema())]


@pytest.fixture(autouse=True)
async def nothing_remembered(request: pytest.FixtureRequest) -> None:
    """The sandbox begins anew with each test: what runs before have noted about it is of another world."""
    if "prefect_server" in request.fixturenames:
        request.getfixturevalue("prefect_server")
        async with get_client() as client:
            with contextlib.suppress(PrefectHTTPStatusError):  # no state was ever saved
                for document in await client.read_block_documents_by_type(state.TYPE_SLUG):
                    await client.delete_block_document(document.id)


async def artifact(key: str) -> Any:
    """The newest version of an artifact's data."""
    found = await Artifact.aget(key)
    assert found is not None
    return found.data


class Recorder(NotificationBlock):
    """A notification block that remembers."""

    _block_type_slug: ClassVar[str | None] = "recorder-of-tests"
    sent: ClassVar[list[tuple[str | None, str]]] = []

    async def notify(self, body: str, subject: str | None = None) -> None:  # type: ignore[override]
        self.sent.append((subject, body))


RECORDER = "recorder-of-tests/ops"


@pytest.fixture
async def recorder(prefect_server: None) -> list[tuple[str | None, str]]:
    """Subjects and bodies of what is sent through the notification block RECORDER."""
    await Recorder().asave("ops", overwrite=True)
    Recorder.sent.clear()
    return Recorder.sent


class Receiver:
    """A local HTTP server that keeps the JSON posted to it, as the far end of a saved Custom Webhook block."""

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

    def webhook(self) -> CustomWebhookNotificationBlock:
        """The block, as a person fills it in in the UI."""
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
async def receiver(prefect_server: None) -> AsyncIterator[Receiver]:
    """What is sent through the saved notification block `receiver.block`, over real HTTP."""
    receiver = Receiver()
    await receiver.save()
    yield receiver
    receiver.stop()


@pytest.fixture
def inline_receiver(inline: Inline) -> Iterator[Receiver]:
    """The same without a Prefect server."""
    receiver = Receiver()
    inline.blocks[receiver.block] = receiver.webhook()
    yield receiver
    receiver.stop()


@pytest.fixture
def world(sandbox: Sandbox) -> World:
    return World(sandbox)


@pytest.fixture
def run_logs() -> Iterator[list[str]]:
    """Everything that flow and task runs log."""
    lines: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    handler, logger = Handler(), logging.getLogger("prefect")
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)
