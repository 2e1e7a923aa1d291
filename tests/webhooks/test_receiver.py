"""The receiver's answers: to what it should take, to what it should not, and to those who run it."""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from pydantic import SecretStr
from starlette.applications import Starlette

from prefect_calendly.webhooks import receiver as module
from prefect_calendly.webhooks.deliveries import PING, parse_delivery
from prefect_calendly.webhooks.delivery_events import events_of_delivery
from prefect_calendly.webhooks.receiver import ReceiverSettings, create_app
from prefect_calendly.webhooks.signature import HEADER
from tests.support import until
from tests.webhooks.examples import API, NEW, OLD, PRIVATE, TOLD, booking, canceled, delivered, invitee
from tests.webhooks.running import KEY, PATH, FakePrefect, Receiver, running, settings

MIB = 1024 * 1024


def new_booking() -> bytes:
    return json.dumps(booking(secrets.token_hex(6))).encode()


def first_id(body: bytes) -> UUID:
    return events_of_delivery(parse_delivery(body))[0].id


# What it takes


def test_a_delivery_is_an_event_in_prefect_when_it_is_answered(shared: Receiver, shared_prefect: FakePrefect) -> None:
    body = new_booking()
    answer = shared.deliver(body)
    assert (answer.status_code, answer.json()) == (200, {"status": "accepted"})
    (wanted,) = events_of_delivery(parse_delivery(body))
    assert shared_prefect.stored[wanted.id] == wanted.as_json()


def test_a_delivery_that_comes_again_is_no_second_event(shared: Receiver, shared_prefect: FakePrefect) -> None:
    body = new_booking()
    assert [shared.deliver(body).json()["status"] for _ in range(3)] == ["accepted", "duplicate", "duplicate"]
    assert shared_prefect.told[first_id(body)] == 1


async def test_a_delivery_that_comes_many_times_at_once_is_one_event(
    shared: Receiver, shared_prefect: FakePrefect
) -> None:
    delivery = booking("many")
    answers = await shared.deliver_all([delivery] * 40)
    assert {answer.status_code for answer in answers} == {200}
    assert sorted(answer.json()["status"] for answer in answers) == ["accepted", *["duplicate"] * 39]
    assert shared_prefect.told[first_id(json.dumps(delivery).encode())] == 1


@pytest.mark.parametrize("newest_first", [False, True])
def test_the_halves_of_a_move_are_one_move_in_either_order(
    receiver: Receiver, prefect: FakePrefect, newest_first: bool
) -> None:
    gone = delivered("invitee.canceled", canceled(OLD, rescheduled=True, new_invitee=NEW))
    come = delivered("invitee.created", invitee(NEW, old_invitee=OLD))
    halves = [come, gone] if newest_first else [gone, come]
    assert [receiver.deliver(half).json()["status"] for half in [*halves, *halves]] == ["accepted"] * 2 + [
        "duplicate"
    ] * 2
    moves = {each["event"]: each["resource"]["calendly.move"] for each in prefect.stored.values()}
    assert moves == dict.fromkeys(
        ("calendly.invitee.canceled", "calendly.invitee.created", "calendly.invitee.rescheduled"), "true"
    )
    assert len(prefect.told) == sum(prefect.told.values()) == 3


def test_an_event_that_is_not_known_here_is_handed_over_too(shared: Receiver, shared_prefect: FakePrefect) -> None:
    before = shared.counted("deliveries_accepted_total", event="other")
    assert shared.deliver(delivered("comet.seen", {"uri": f"{API}/comets/HALLEY"})).status_code == 200
    assert len(shared_prefect.named("calendly.comet.seen")) == 1
    assert shared.counted("deliveries_accepted_total", event="other") == before + 1


def test_a_ping_is_answered_when_it_is_signed_and_prefect_is_not_told(
    shared: Receiver, shared_prefect: FakePrefect
) -> None:
    ping = {"event": PING, "created_at": TOLD, "payload": {}}
    told = len(shared_prefect.told)
    assert shared.deliver(ping).json() == {"status": "pong"}
    assert shared.deliver(ping, key="another").status_code == 401
    assert len(shared_prefect.told) == told
    assert shared.counted("deliveries_ping_total") == 1


def test_the_payload_and_the_organization_are_as_configured(prefect: FakePrefect, tmp_path: Path) -> None:
    organization = f"{API}/organizations/ORGANIZATION"
    full = settings(tmp_path / "receiver.db", payload="full", organization=organization, path="/hooks/abc")
    with running(full, prefect.url) as receiver:
        body = new_booking()
        assert receiver.deliver(body).status_code == 200
    (event,) = events_of_delivery(parse_delivery(body), payload="full", organization=organization)
    assert prefect.stored[event.id] == event.as_json()
    assert "I have a rash" in json.dumps(prefect.stored[event.id])


def test_without_signatures_everybody_may_deliver_when_that_was_asked_for(prefect: FakePrefect, tmp_path: Path) -> None:
    with running(settings(tmp_path / "receiver.db", insecure=True), prefect.url) as receiver:
        body = new_booking()
        assert HEADER not in receiver.headers(body)
        assert receiver.deliver(body).json() == {"status": "accepted"}
        assert receiver.get("/readyz").status_code == 200


def test_several_keys_are_accepted_while_one_is_replaced(prefect: FakePrefect, tmp_path: Path) -> None:
    both = settings(tmp_path / "receiver.db", signing_keys=["newer", SecretStr("older")])
    with running(both, prefect.url) as receiver:
        assert receiver.deliver(new_booking(), key="newer").status_code == 200
        assert receiver.deliver(new_booking(), key="older").status_code == 200
        assert receiver.deliver(new_booking(), key="oldest").status_code == 401
    assert "newer" not in repr(both)


# What it does not take


def chunks(total: int, size: int = 65_536) -> Iterator[bytes]:
    for _ in range(0, total, size):
        yield b" " * size


BODY = new_booking()
GOOD = {"content-type": "application/json"}


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
        ({"body": b"[" * 500_000}, 400, "malformed"),
        ({"body": b'{"a":' * 200_000}, 400, "malformed"),
        ({"body": b"[" * 500_000, "key": "another-key"}, 401, "signature_wrong"),
        ({"body": b" " * (MIB + 1)}, 413, "too_large"),
        ({"body": b" " * 50 * MIB}, 413, "too_large"),
        ({"body": b" " * 50 * MIB, "strip": True}, 413, "too_large"),
        ({"chunks": 50 * MIB}, 413, "too_large"),
        ({"chunks": 50 * MIB, "strip": True}, 401, "signature_missing"),
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


def test_a_slow_body_is_given_up_while_good_deliveries_are_answered(shared: Receiver) -> None:
    body = new_booking()
    slow = threading.Event()

    def trickle() -> Iterator[bytes]:
        for each in body:
            yield bytes([each])
            slow.wait(0.02)

    headers = shared.headers(body)
    answers: list[httpx.Response] = []

    def send() -> None:
        with httpx.Client(trust_env=False) as http:
            answers.append(http.post(shared.url, content=trickle(), headers=headers))

    senders = [threading.Thread(target=send) for _ in range(5)]
    for sender in senders:
        sender.start()
    while any(sender.is_alive() for sender in senders):
        assert shared.deliver(new_booking()).status_code == 200
    assert [answer.status_code for answer in answers] == [408] * 5
    assert shared.counted("deliveries_rejected_total", reason="slow") == 5


def test_those_who_hang_up_leave_nothing_behind(shared: Receiver) -> None:
    body = new_booking()
    lines = [f"{name}: {value}" for name, value in shared.headers(body).items()]
    head = "\r\n".join([f"POST {PATH} HTTP/1.1", "host: here", f"content-length: {len(body)}", *lines, "", ""])
    with socket.create_connection(shared.address) as connection:
        connection.sendall(head.encode() + body[:100])
    until(lambda: shared.counted("deliveries_rejected_total", reason="disconnected") == 1)
    assert shared.deliver(body).json() == {"status": "accepted"}


def test_large_bodies_together_must_not_use_up_the_memory(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_LARGE", 1)
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
        with httpx.Client(trust_env=False, timeout=30) as http:
            answers.append(http.post(receiver.url, content=half(), headers=receiver.headers(large)).status_code)

    sender = threading.Thread(target=send)
    sender.start()
    coming.wait(30)
    until(lambda: receiver.deliver(large).status_code == 503, 10)
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
        with httpx.Client(trust_env=False, timeout=30) as http:
            while not over.is_set():
                body = secrets.token_bytes(1000)
                headers = shared.headers(body, key="another")
                assert http.post(shared.url, content=body, headers=headers).status_code == 401
                sent[number] += 1

    senders = [threading.Thread(target=hail, args=(number,)) for number in range(2)]
    for sender in senders:
        sender.start()
    try:
        for _ in range(30):
            assert shared.deliver(new_booking()).status_code == 200
        until(lambda: sum(sent) > 100)
    finally:
        over.set()
        for sender in senders:
            sender.join()
    refusals = [each for each in caplog.records if each.getMessage().startswith("refused")]
    assert len(refusals) < sum(sent) / 2


# For those who run it


def test_it_is_healthy_and_ready_when_all_parts_are_there(shared: Receiver) -> None:
    assert (shared.get("/healthz").status_code, shared.get("/healthz").json()) == (200, {"status": "ok"})
    parts = {"signing_key": "ok", "store": "ok", "prefect": "ok"}
    assert (shared.get("/readyz").status_code, shared.get("/readyz").json()) == (200, {"status": "ready", **parts})


def test_it_says_which_part_is_missing(
    receiver: Receiver, prefect: FakePrefect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_READY_SECONDS", 0.0)
    prefect.stop()
    answer = until(lambda: (found := receiver.get("/readyz")).status_code == 503 and found, 10)
    assert answer.json() == {"status": "not ready", "signing_key": "ok", "store": "ok", "prefect": "unavailable"}
    assert receiver.get("/healthz").status_code == 200
    prefect.start()
    until(lambda: receiver.get("/readyz").status_code == 200, 10)


def test_a_store_that_is_out_of_order_is_not_ready(receiver: Receiver, tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "receiver.db")) as store:
        store.execute("DROP TABLE calendly_receiver_events")
    assert receiver.get("/readyz").json()["store"] == "unavailable"
    assert receiver.deliver(new_booking()).status_code == 503
    assert receiver.counted("deliveries_rejected_total", reason="store_unavailable") == 1


def test_metrics_and_logs_count_and_name_nothing_personal(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    body = new_booking()
    receiver.deliver(body)
    receiver.deliver(body)
    receiver.deliver(delivered("contact.updated"))
    receiver.deliver(b'{"Jane": "Doe"}')
    signature = receiver.headers(body)[HEADER]
    receiver.http.post(receiver.url, content=b"Jane", headers=GOOD | {HEADER: signature})
    assert receiver.counted("deliveries_accepted_total", event="invitee.created") == 1
    assert receiver.counted("deliveries_accepted_total", event="contact.updated") == 1
    assert receiver.counted("deliveries_duplicate_total") == 1
    assert receiver.counted("deliveries_rejected_total") == 2
    assert receiver.counted("deliveries_received_total") == 5
    assert receiver.counted("handover_seconds_count") == 3
    assert receiver.counted("last_delivery_timestamp_seconds") == pytest.approx(time.time(), abs=60)
    assert receiver.counted("signing_keys") == 1
    until(lambda: receiver.counted("events_confirmed_total") == 2 and receiver.counted("events_unconfirmed") == 0, 10)
    ours = [each for each in caplog.records if each.name.startswith("prefect_calendly")]
    logged = " ".join(f"{each.getMessage()} {getattr(each, 'fields', '')}" for each in ours)
    assert str(first_id(body)) in logged
    shown = f"{logged} {receiver.get('/metrics').text}"
    for word in ("Jane", "Doe", "@", "Shop.Example", KEY, signature[-64:], *PRIVATE):
        assert word.lower() not in shown.lower()


# Keys


def test_a_key_that_is_replaced_in_its_block_is_accepted_without_a_restart_and_the_old_one_too(
    prefect: FakePrefect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefect_calendly.webhooks.keys._PAUSE_SECONDS", 0.0)
    prefect.secrets["calendly-key"] = "first"
    with running(settings(tmp_path / "receiver.db", signing_key_block="calendly-key"), prefect.url) as receiver:
        assert receiver.deliver(new_booking(), key="first").status_code == 200
        assert receiver.deliver(new_booking(), key="second").status_code == 401
        prefect.secrets["calendly-key"] = {"keys": ["second", "first"]}
        assert receiver.deliver(new_booking(), key="second").status_code == 200
        assert receiver.deliver(new_booking(), key="first").status_code == 200
        assert receiver.counted("signing_keys") == 2
        prefect.secrets["calendly-key"] = {"keys": ["second"]}
        assert receiver.deliver(new_booking(), key="third").status_code == 401
        assert receiver.deliver(new_booking(), key="first").status_code == 401


@pytest.mark.parametrize("trouble", ["away", "no block"])
def test_the_keys_hold_while_prefect_cannot_tell_them(
    prefect: FakePrefect,
    tmp_path: Path,
    trouble: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("prefect_calendly.webhooks.keys._PAUSE_SECONDS", 0.0)
    prefect.secrets["calendly-key"] = "first"
    with running(settings(tmp_path / "receiver.db", signing_key_block="calendly-key"), prefect.url) as receiver:
        body = new_booking()
        assert receiver.deliver(body, key="first").status_code == 200
        if trouble == "away":
            prefect.stop()
        else:
            prefect.secrets["calendly-key"] = FakePrefect.NO_BLOCK
        assert receiver.deliver(body, key="another").status_code == 401
        assert receiver.deliver(body, key="first").json() == {"status": "duplicate"}
    assert "cannot be read" in caplog.text
    assert "s3cret" not in caplog.text


def test_until_its_key_is_there_calendly_is_asked_to_come_again(
    prefect: FakePrefect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefect_calendly.webhooks.keys._PAUSE_SECONDS", 0.05)
    with running(settings(tmp_path / "receiver.db", signing_key_block="calendly-key"), prefect.url) as receiver:
        body = new_booking()
        answer = receiver.deliver(body, key="first")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
        assert receiver.counted("deliveries_rejected_total", reason="no_key") == 1
        assert receiver.get("/readyz").json()["signing_key"] == "missing"
        assert receiver.http.post(receiver.url, content=body, headers=GOOD).status_code == 401
        prefect.secrets["calendly-key"] = {"keys": ["first"]}
        until(lambda: receiver.deliver(body, key="first").status_code == 200, 10)
        until(lambda: receiver.get("/readyz").status_code == 200, 10)


# Summaries


def test_prefect_is_told_what_has_happened_from_time_to_time_and_at_the_end(
    prefect: FakePrefect, tmp_path: Path
) -> None:
    bodies = [new_booking() for _ in range(3)]
    hurried = settings(tmp_path / "receiver.db", summary_seconds=0.3, name="north")

    def told() -> list[dict[str, Any]]:
        return [each["payload"] for each in prefect.named("calendly.receiver.summary")]

    with running(hurried, prefect.url) as receiver:
        for body in (*bodies[:2], bodies[0], bodies[0]):
            receiver.deliver(body)
        receiver.deliver(bodies[1], key="another")
        until(lambda: sum(each["rejected"].get("signature_wrong", 0) for each in told()) == 1, 10)
        until(lambda: receiver.counted("events_unconfirmed") == 0, 10)
        receiver.deliver(bodies[2])
    summaries = told()
    assert sum(each["accepted"] for each in summaries) == 3
    assert sum(each["duplicates"] for each in summaries) == 2
    assert {ident for each in summaries for ident in each["duplicate_ids"]} == {str(first_id(bodies[0]))}
    assert all(each.keys() >= {"since", "until", "last_delivery_at"} for each in summaries)
    assert all(each["since"] < each["until"] for each in summaries)
    # One with nothing in it is not told.
    assert all(each["accepted"] or each["duplicates"] or each["rejected"] for each in summaries)
    (resource,) = {each["resource"]["prefect.resource.id"] for each in prefect.named("calendly.receiver.summary")}
    assert resource == "calendly.receiver.north"


# Mounting and settings


async def test_mounted_in_another_application_it_says_when_its_lifespan_was_forgotten(tmp_path: Path) -> None:
    app = Starlette()
    app.mount("/calendly", create_app(settings(tmp_path / "receiver.db", insecure=True)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here/calendly") as http:
        answer = await http.post(PATH, json={})
        assert answer.status_code == 503
        assert "lifespan" in answer.json()["error"]
        assert (await http.get("/readyz")).status_code == 503
        assert (await http.get("/metrics")).status_code == 200


async def test_mounted_in_another_application_it_works_when_that_enters_its_lifespan(
    prefect: FakePrefect, tmp_path: Path
) -> None:
    receiver = create_app(settings(tmp_path / "receiver.db", insecure=True))
    app = Starlette()
    app.mount("/calendly", receiver)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here/calendly") as http:
        with temporary_settings({PREFECT_API_URL: prefect.url}):
            async with receiver.router.lifespan_context(receiver):
                assert (await http.post(PATH, json=booking(1))).json() == {"status": "accepted"}
    assert len(prefect.named("calendly.invitee.created")) == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "no signing key"),
        ({"signing_keys": [""]}, "must not be empty"),
        ({"signing_keys": ["k"], "insecure": True}, "use one of them"),
        ({"signing_key_block": "My Block"}, "signing_key_block must be the name"),
        ({"insecure": True, "path": "webhooks"}, "path must be"),
        ({"insecure": True, "path": "/metrics"}, "path must be"),
        ({"insecure": True, "path": "/a/{b}"}, "path must be"),
        ({"insecure": True, "name": "North 1"}, "name must be"),
        ({"insecure": True, "payload": "all"}, "payload must be"),
        ({"insecure": True, "remember_days": 1}, "at least 2"),
        ({"insecure": True, "body_seconds": 0}, "body_seconds must be more than 0"),
        ({"insecure": True, "store": "mysql://u@h/d"}, "must be SQLite or PostgreSQL"),
        ({"insecure": True, "organization": "https://evil.example/organizations/O"}, "organization"),
    ],
)
def test_settings_that_cannot_be_are_refused_with_what_to_do(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ReceiverSettings(**given)
