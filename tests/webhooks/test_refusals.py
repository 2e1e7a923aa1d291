"""Requests that the receiver refuses, and those that must not keep it from taking good deliveries."""

from __future__ import annotations

import json
import secrets
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from prefect_calendly.webhooks import receiver as module
from prefect_calendly.webhooks.signature import HEADER
from tests.webhooks.examples import API, delivered, invitee, new_booking
from tests.webhooks.fake_prefect import FakePrefect
from tests.webhooks.running import KEY, PATH, Receiver, eventually, local_client, running, settings

MIB = 1024 * 1024


def chunks(total: int, size: int = 65_536) -> Iterator[bytes]:
    for _ in range(0, total, size):
        yield b" " * size


def unstorable(event: str, payload: dict[str, Any] | None = None, **members: Any) -> bytes:
    """The body of a delivery that must make no event."""
    return json.dumps(delivered(event, payload or {"uri": f"{API}/comets/C"}, **members)).encode()


BODY = new_booking()


@pytest.mark.parametrize(
    ("how", "status", "reason"),
    [
        ({"key": "another-key"}, 401, "signature_wrong"),
        ({"strip": True}, 401, "signature_missing"),
        ({"headers": {HEADER: "v1=abc"}}, 401, "signature_malformed"),
        ({"headers": {HEADER: "t=1,v1=" + "0" * 64}}, 401, "signature_stale"),
        ({"age": 181}, 401, "signature_stale"),
        ({"age": -181}, 401, "signature_stale"),
        ({"change": True}, 401, "signature_wrong"),
        ({"headers": {"content-type": "text/plain"}}, 415, "content_type"),
        ({"headers": {"content-type": "application/x-www-form-urlencoded"}}, 415, "content_type"),
        ({"headers": {"content-type": ""}}, 415, "content_type"),
        ({"method": "GET"}, 405, "method"),
        ({"method": "HEAD"}, 405, "method"),
        ({"method": "PUT"}, 405, "method"),
        ({"method": "DELETE"}, 405, "method"),
        ({"path": f"{PATH}/"}, 404, "path"),
        ({"path": "/webhooks/../etc/passwd"}, 404, "path"),
        ({"path": "/"}, 404, "path"),
        ({"body": b""}, 400, "malformed"),
        ({"body": b"[]"}, 400, "malformed"),
        ({"body": b"\xff\xfe"}, 400, "malformed"),
        ({"body": b'{"event": "invitee.created"}'}, 400, "malformed"),
        ({"body": json.dumps(delivered("invitee.created", {"uri": "x"})).encode()}, 400, "malformed"),
        ({"body": unstorable("comet\x00.seen")}, 400, "malformed"),
        ({"body": unstorable("screening.canceled")}, 400, "malformed"),
        ({"body": unstorable("screening.refused")}, 400, "malformed"),
        ({"body": unstorable("receiver.summary")}, 400, "malformed"),
        ({"body": unstorable("delivery.unreadable")}, 400, "malformed"),
        ({"body": unstorable("invitee.rescheduled")}, 400, "malformed"),
        ({"body": unstorable("comet.seen", created_at="0001-01-01T00:00:00+14:00")}, 400, "malformed"),
        ({"body": unstorable("comet.seen", {"uri": f"{API}/comets/{'x' * 1_000}"})}, 400, "malformed"),
        ({"body": unstorable("invitee.created", invitee(name="x" * 1_000_000))}, 400, "malformed"),
        ({"body": b"[" * 500_000}, 400, "malformed"),
        ({"body": b'{"a":' * 200_000}, 400, "malformed"),
        ({"body": b"[" * 500_000, "key": "another-key"}, 401, "signature_wrong"),
        ({"body": b" " * (MIB + 1)}, 413, "too_large"),
        ({"body": b" " * 8 * MIB}, 413, "too_large"),
        ({"body": b" " * 8 * MIB, "strip": True}, 413, "too_large"),
        ({"chunks": 8 * MIB}, 413, "too_large"),
        ({"chunks": 8 * MIB, "strip": True}, 401, "signature_missing"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_bad_request_is_refused_with_its_status_counted_and_told_nothing(
    shared: Receiver, shared_prefect: FakePrefect, how: dict[str, Any], status: int, reason: str
) -> None:
    content: bytes = how.get("body", BODY)
    headers = shared.headers(content, key=how.get("key"), age=how.get("age", 0))
    if "strip" in how:
        del headers[HEADER]
    headers |= how.get("headers", {})
    sent: Any = content
    if "change" in how:
        sent = content.replace(b"Jane", b"Jame")
    if "chunks" in how:
        sent = chunks(how["chunks"])
    url = httpx.URL(shared.url).join(how.get("path", PATH))
    counted, posts = shared.counted("deliveries_rejected_total", reason=reason), shared_prefect.posts
    received = shared.counted("deliveries_received_total")
    answer = shared.http.request(how.get("method", "POST"), url, content=sent, headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert "server" not in answer.headers
    if how.get("method") != "HEAD":
        assert answer.json().keys() == {"error"}
        assert not any(word in answer.text for word in ("Jane", KEY, "Traceback", "another-key", "passwd"))
    if status == 405:
        assert answer.headers["allow"] == "POST"
    assert shared.counted("deliveries_rejected_total", reason=reason) == counted + 1
    assert shared.counted("deliveries_received_total") == received + 1
    assert shared_prefect.posts == posts
    assert shared.deliver(new_booking()).status_code == 200


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON", "application/json;"])
def test_the_content_type_may_have_parameters(shared: Receiver, content_type: str) -> None:
    body = new_booking()
    headers = shared.headers(body) | {"content-type": content_type}
    assert shared.http.post(shared.url, content=body, headers=headers).status_code == 200


def test_a_delivery_of_exactly_the_largest_size_is_read(shared: Receiver) -> None:
    body = new_booking()
    assert shared.deliver(body + b" " * (MIB - len(body))).status_code == 200


def test_a_slow_body_is_given_up_while_good_deliveries_are_answered(prefect: FakePrefect, tmp_path: Path) -> None:
    with running(settings(tmp_path / "receiver.db", body_seconds=0.2), prefect.url) as receiver:
        _slow_bodies(receiver)


def _slow_bodies(receiver: Receiver) -> None:
    body = new_booking()
    slow = threading.Event()

    def trickle() -> Iterator[bytes]:
        for each in body:
            yield bytes([each])
            slow.wait(0.02)

    headers = receiver.headers(body)
    answers: list[httpx.Response] = []

    def send() -> None:
        with local_client() as http:
            answers.append(http.post(receiver.url, content=trickle(), headers=headers))

    senders = [threading.Thread(target=send) for _ in range(5)]
    for sender in senders:
        sender.start()
    while any(sender.is_alive() for sender in senders):
        assert receiver.deliver(new_booking()).status_code == 200
    assert [answer.status_code for answer in answers] == [408] * 5
    assert receiver.counted("deliveries_rejected_total", reason="slow") == 5


def test_those_who_hang_up_leave_nothing_behind(shared: Receiver) -> None:
    body = new_booking()
    lines = [f"{name}: {value}" for name, value in shared.headers(body).items()]
    head = "\r\n".join([f"POST {PATH} HTTP/1.1", "host: here", f"content-length: {len(body)}", *lines, "", ""])
    with socket.create_connection(shared.address) as connection:
        connection.sendall(head.encode() + body[:100])
    eventually(lambda: shared.counted("deliveries_rejected_total", reason="disconnected") == 1)
    assert shared.deliver(body).json() == {"status": "accepted"}


def test_large_bodies_together_do_not_use_up_the_memory(prefect: FakePrefect, tmp_path: Path) -> None:
    with running(settings(tmp_path / "receiver.db", max_large_bodies=1), prefect.url) as receiver:
        _large_bodies(receiver)


def _large_bodies(receiver: Receiver) -> None:
    body = new_booking()
    large = body + b" " * 500_000
    stop = threading.Event()
    coming = threading.Event()

    def half() -> Iterator[bytes]:
        yield large[:300_000]
        coming.set()
        stop.wait(30)
        yield large[300_000:]

    answers: list[int] = []

    def send() -> None:
        with local_client() as http:
            answers.append(http.post(receiver.url, content=half(), headers=receiver.headers(large)).status_code)

    sender = threading.Thread(target=send)
    sender.start()
    coming.wait(30)
    eventually(lambda: receiver.deliver(large).status_code == 503)
    assert receiver.counted("deliveries_rejected_total", reason="busy") >= 1
    assert receiver.deliver(new_booking()).status_code == 200
    stop.set()
    sender.join()
    assert answers == [200]
    assert receiver.deliver(large).json() == {"status": "duplicate"}


def test_a_mistake_of_ours_is_no_stack_trace(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("jane@example.org")

    monkeypatch.setattr(module, "events_of_delivery", broken)
    answer = receiver.deliver(new_booking())
    assert answer.status_code == 500
    assert answer.json().keys() == {"error"}
    assert receiver.counted("deliveries_rejected_total", reason="internal") == 1
    (record,) = [each for each in caplog.records if each.levelname == "ERROR"]
    assert record.fields["error"] == "RuntimeError"  # type: ignore[attr-defined]
    assert "jane" not in f"{caplog.text} {record.fields}"  # type: ignore[attr-defined]


def test_under_a_hail_of_bad_requests_good_deliveries_are_answered_and_the_log_stays_small(
    shared: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    over = threading.Event()
    sent = [0, 0]

    def hail(number: int) -> None:
        with local_client() as http:
            while not over.is_set():
                body = secrets.token_bytes(1000)
                headers = shared.headers(body, key="another")
                assert http.post(shared.url, content=body, headers=headers).status_code == 401
                sent[number] += 1

    senders = [threading.Thread(target=hail, args=(number,)) for number in range(2)]
    for sender in senders:
        sender.start()
    try:
        for _ in range(10):
            assert shared.deliver(new_booking()).status_code == 200
        eventually(lambda: sum(sent) > 40)
    finally:
        over.set()
        for sender in senders:
            sender.join()
    refusals = [each for each in caplog.records if each.getMessage().startswith("refused")]
    assert len(refusals) < sum(sent) / 2
