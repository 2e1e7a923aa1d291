"""A ping to the receiver: before anything is subscribed, and by the key that the subscription gets."""

from __future__ import annotations

import secrets as random
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from pydantic import SecretStr

from prefect_calendly.subscription.probe import ReceiverUnreachableError, ping_receiver
from prefect_calendly.webhooks.signature import verify
from tests.subscription.conftest import Subscriber

KEY = SecretStr("whsec-of-the-tests")
PONG = (200, b'{"status":"pong"}')


class Endpoint:
    """What stands at a callback URL: it gives its answers in turn, the last one again and again."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes]] = []
        self.seen: list[tuple[dict[str, str], bytes]] = []
        """Headers and body of each request."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.seen.append((dict(self.headers), body))
                status, answer = outer.answers.pop(0) if len(outer.answers) > 1 else outer.answers[0]
                self.send_response(status)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.path = f"/hooks/{random.token_hex(8)}"
        self.url = f"http://127.0.0.1:{self.server.server_port}{self.path}"
        self.thread = Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    yield endpoint
    endpoint.stop()


async def ping(url: str, patience_seconds: float = 0) -> None:
    await ping_receiver(url, KEY, shown_as="here", patience_seconds=patience_seconds, pause_seconds=0.01)


async def test_a_receiver_that_takes_up_the_key_a_moment_later_passes(
    endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    endpoint.answers = [(503, b""), (401, b""), PONG]
    await ping(endpoint.url, patience_seconds=30)
    headers, body = endpoint.seen[2]
    verify(headers, body, [KEY], datetime.now(UTC))
    assert len(endpoint.seen) == 3
    assert endpoint.path not in caplog.text


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ((401, b""), "does not accept the signing key"),
        ((503, b""), "answers HTTP 503"),
        ((302, b""), "answers HTTP 302"),
        ((404, b""), "answers HTTP 404"),
        ((200, b"<html>"), "does not answer as a receiver"),
        ((200, b'{"status":"accepted"}'), "does not answer as a receiver"),
    ],
)
async def test_anything_else_at_the_url_is_an_error_that_says_what_answers(
    endpoint: Endpoint, answer: tuple[int, bytes], problem: str
) -> None:
    endpoint.answers = [answer]
    with pytest.raises(ReceiverUnreachableError, match=f"The receiver at here {problem}") as caught:
        await ping(endpoint.url)
    assert endpoint.path not in str(caught.value)


async def test_what_will_not_pass_is_not_repeated(endpoint: Endpoint) -> None:
    endpoint.answers = [(404, b""), PONG]
    with pytest.raises(ReceiverUnreachableError):
        await ping(endpoint.url, patience_seconds=30)
    assert len(endpoint.seen) == 1


async def test_nobody_at_the_url_is_an_error_that_says_so() -> None:
    with pytest.raises(ReceiverUnreachableError, match=r"gives no answer \(ConnectError\)"):
        await ping("http://127.0.0.1:9/hooks")


# In a run


async def test_a_run_pings_before_it_subscribes_and_only_then(account: Subscriber, endpoint: Endpoint) -> None:
    account.url, endpoint.answers = endpoint.url, [PONG]
    assert (await account.ensure(signing_key_block="calendly-key", check_receiver=True)).outcome == "created"
    headers, body = endpoint.seen[0]
    verify(headers, body, (await account.ring()).keys, datetime.now(UTC))
    assert "answers to a signed ping" in account.page
    assert (await account.ensure(signing_key_block="calendly-key", check_receiver=True)).outcome == "unchanged"
    assert len(endpoint.seen) == 1


async def test_a_receiver_that_does_not_answer_stops_a_run_before_anything_is_changed(
    account: Subscriber, endpoint: Endpoint
) -> None:
    account.url, endpoint.answers = endpoint.url, [(404, b"")]
    old = (await account.ensure()).subscription
    with pytest.raises(ReceiverUnreachableError, match="answers HTTP 404: nothing was subscribed") as caught:
        await account.ensure(signing_key_block="calendly-key", check_receiver=True)
    assert account.uuids == [old]
    assert endpoint.path not in str(caught.value)
