"""Deliveries that the receiver takes: each becomes its events in Prefect, once."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from starlette.applications import Starlette

from prefect_calendly.webhooks.deliveries import PING, parse_delivery
from prefect_calendly.webhooks.delivery_events import events_of_delivery
from prefect_calendly.webhooks.receiver import create_app
from prefect_calendly.webhooks.signature import HEADER
from tests.settings import changed_settings
from tests.webhooks.examples import API, CREATED, NEW, OLD, booking, canceled, delivered, first_id, invitee, new_booking
from tests.webhooks.fake_prefect import FakePrefect
from tests.webhooks.running import PATH, Receiver, eventually, running, settings


def test_a_delivery_is_an_event_in_prefect_when_it_is_answered(shared: Receiver, shared_prefect: FakePrefect) -> None:
    body = new_booking()
    answer = shared.deliver(body)
    assert (answer.status_code, answer.json()) == (200, {"status": "accepted"})
    (wanted,) = events_of_delivery(parse_delivery(body))
    assert shared_prefect.stored[wanted.id] == wanted.as_json()


def test_a_delivery_that_comes_again_is_no_second_event(shared: Receiver, shared_prefect: FakePrefect) -> None:
    body = new_booking()
    assert [shared.deliver(body).json()["status"] for _ in range(3)] == ["accepted", "duplicate", "duplicate"]
    assert shared_prefect.accepted[first_id(body)] == 1


async def test_a_delivery_that_comes_many_times_at_once_is_one_event(
    shared: Receiver, shared_prefect: FakePrefect
) -> None:
    delivery = booking("many")
    answers = await shared.deliver_all([delivery] * 40)
    assert {answer.status_code for answer in answers} == {200}
    assert sorted(answer.json()["status"] for answer in answers) == ["accepted", *["duplicate"] * 39]
    assert shared_prefect.accepted[first_id(json.dumps(delivery).encode())] == 1


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
    assert len(prefect.accepted) == sum(prefect.accepted.values()) == 3


def test_an_event_that_is_not_known_here_is_handed_over_too(shared: Receiver, shared_prefect: FakePrefect) -> None:
    before = shared.counted("deliveries_accepted_total", event="other")
    assert shared.deliver(delivered("comet.seen", {"uri": f"{API}/comets/HALLEY"})).status_code == 200
    assert len(shared_prefect.named("calendly.comet.seen")) == 1
    assert shared.counted("deliveries_accepted_total", event="other") == before + 1


def test_a_ping_is_answered_when_it_is_signed_and_prefect_is_not_told(
    shared: Receiver, shared_prefect: FakePrefect
) -> None:
    ping = {"event": PING, "created_at": CREATED, "payload": {}}
    accepted = len(shared_prefect.accepted)
    assert shared.deliver(ping).json() == {"status": "pong"}
    assert shared.deliver(ping, key="another").status_code == 401
    assert len(shared_prefect.accepted) == accepted
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


# Signing keys


def test_a_key_that_is_replaced_in_its_block_is_accepted_without_a_restart_and_the_old_one_too(
    prefect: FakePrefect, tmp_path: Path
) -> None:
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
    caplog: pytest.LogCaptureFixture,
) -> None:
    prefect.secrets["calendly-key"] = "first"
    hasty = settings(tmp_path / "receiver.db", signing_key_block="calendly-key", handover_seconds=3)
    with running(hasty, prefect.url) as receiver:
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


def test_until_its_key_is_there_calendly_is_asked_to_come_again(prefect: FakePrefect, tmp_path: Path) -> None:
    hurried = settings(tmp_path / "receiver.db", signing_key_block="calendly-key", key_pause_seconds=0.05)
    with running(hurried, prefect.url) as receiver:
        body = new_booking()
        answer = receiver.deliver(body, key="first")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
        assert receiver.counted("deliveries_rejected_total", reason="no_key") == 1
        assert receiver.get("/readyz").json()["signing_key"] == "missing"
        assert (
            receiver.http.post(receiver.url, content=body, headers={"content-type": "application/json"}).status_code
            == 401
        )
        prefect.secrets["calendly-key"] = {"keys": ["first"]}
        eventually(lambda: receiver.deliver(body, key="first").status_code == 200)
        eventually(lambda: receiver.get("/readyz").status_code == 200)


# In another application


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
        with changed_settings("api.url", prefect.url):
            async with receiver.router.lifespan_context(receiver):
                assert (await http.post(PATH, json=booking(1))).json() == {"status": "accepted"}
    assert len(prefect.named("calendly.invitee.created")) == 1
