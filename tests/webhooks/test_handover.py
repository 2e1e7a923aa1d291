"""Handing over: each event once, and none lost, whatever happens to Prefect, the store or the receiver."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from prefect.client.orchestration import get_client
from prefect.settings import get_current_settings

from prefect_calendly.webhooks import handover as module
from prefect_calendly.webhooks import store as store_module
from prefect_calendly.webhooks.deliveries import parse_delivery
from prefect_calendly.webhooks.delivery_events import events_of_delivery
from tests.support import until
from tests.webhooks.examples import API, NEW, OLD, booking, canceled, delivered, invitee
from tests.webhooks.running import FakePrefect, Receiver, process, running, settings


def ids(*deliveries: dict[str, Any]) -> set[UUID]:
    return {event.id for each in deliveries for event in events_of_delivery(parse_delivery(json.dumps(each).encode()))}


def confirmed(receiver: Receiver, number: int) -> Callable[[], bool]:
    """Whether so many events were seen in Prefect, and none is left."""

    def look() -> bool:
        return receiver.counted("events_confirmed_total") >= number and not receiver.counted("events_unconfirmed")

    return look


def database(path: Path) -> contextlib.closing[sqlite3.Connection]:
    return contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=10))


async def test_what_comes_at_once_is_given_together(prefect: FakePrefect, tmp_path: Path) -> None:
    deliveries = [booking(number) for number in range(120)]
    with running(settings(tmp_path / "receiver.db", handover_seconds=20), prefect.url) as receiver:
        answers = await receiver.deliver_all(deliveries, at_once=60)
        assert {answer.status_code for answer in answers} == {200}
        assert prefect.stored.keys() == ids(*deliveries)
        assert prefect.posts < 60
        until(confirmed(receiver, 120), 20)
        assert sum(prefect.told.values()) == 120


def test_while_prefect_is_away_deliveries_are_kept_and_calendly_is_asked_to_come_again(
    receiver: Receiver, prefect: FakePrefect, tmp_path: Path
) -> None:
    deliveries = [booking(number) for number in range(3)]
    assert receiver.deliver(deliveries[0]).status_code == 200
    prefect.stop()
    for delivery in deliveries[1:]:
        answer = receiver.deliver(delivery)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
    assert receiver.counted("deliveries_rejected_total", reason="prefect_unavailable") == 2
    prefect.start()
    # Nobody has to come again for the events to come through.
    until(confirmed(receiver, 3), 20)
    assert prefect.stored.keys() == ids(*deliveries)
    assert [receiver.deliver(each).json() for each in deliveries] == [{"status": "duplicate"}] * 3
    assert set(prefect.told.values()) == {1}


@pytest.mark.parametrize("status", [401, 500])
def test_a_prefect_that_answers_with_an_error_is_away(receiver: Receiver, prefect: FakePrefect, status: int) -> None:
    prefect.stop()
    assert receiver.deliver(booking(0)).status_code == 503  # known to be away, it is tried once: quicker here
    prefect.status = status
    prefect.start()
    assert receiver.deliver(booking(1)).status_code == 503
    prefect.status = 0
    until(lambda: receiver.deliver(booking(1)).status_code == 200, 20)
    until(lambda: prefect.stored.keys() == ids(booking(0), booking(1)), 20)


def test_one_failure_of_prefect_is_got_over_before_calendly_sees_it(receiver: Receiver, prefect: FakePrefect) -> None:
    prefect.status = 500
    answers: list[int] = []
    sender = threading.Thread(target=lambda: answers.append(receiver.deliver(booking(1)).status_code))
    sender.start()
    prefect.asked.wait(10)
    prefect.status = 0
    sender.join()
    assert answers == [200]
    assert prefect.told == dict.fromkeys(ids(booking(1)), 1)


def test_a_prefect_that_hangs_makes_nobody_wait_for_long(prefect: FakePrefect, tmp_path: Path) -> None:
    with running(settings(tmp_path / "receiver.db", handover_seconds=0.3), prefect.url) as receiver:
        prefect.answers.clear()
        assert receiver.deliver(booking(1)).status_code == 503
        assert receiver.get("/healthz").status_code == 200
        prefect.answers.set()
        until(lambda: prefect.stored.keys() == ids(booking(1)), 20)
        until(lambda: receiver.deliver(booking(1)).json() == {"status": "duplicate"}, 20)


def test_an_event_that_prefect_refuses_does_not_hold_up_the_others(
    receiver: Receiver, prefect: FakePrefect, caplog: pytest.LogCaptureFixture
) -> None:
    bad = f"{API}/scheduled_events/EVENT7/invitees/INVITEE7"
    prefect.refuses = lambda event: event["resource"].get("calendly.uri") == bad
    prefect.answers.clear()
    answers: dict[int, int] = {}

    def send(number: int) -> None:
        with httpx.Client(trust_env=False, timeout=30) as http:
            body = json.dumps(booking(number)).encode()
            answers[number] = http.post(receiver.url, content=body, headers=receiver.headers(body)).status_code

    senders = [threading.Thread(target=send, args=(number,)) for number in range(10)]
    for sender in senders:
        sender.start()
    until(lambda: receiver.counted("deliveries_waiting") == 10, 20)
    prefect.answers.set()
    for sender in senders:
        sender.join()
    assert answers == {number: 503 if number == 7 else 200 for number in range(10)}
    assert receiver.counted("events_refused_total") >= 1
    assert receiver.counted("deliveries_rejected_total", reason="prefect_refused") == 1
    refusals = [each.fields for each in caplog.records if "refuses an event" in each.getMessage()]  # type: ignore[attr-defined]
    assert {"id": str(*ids(booking(7)))} in refusals
    assert "secret-password" not in caplog.text
    # Calendly comes again, and then it may be taken.
    prefect.refuses = lambda event: False
    assert receiver.deliver(booking(7)).json() == {"status": "accepted"}


def test_too_many_who_wait_are_sent_away_at_once(
    receiver: Receiver, prefect: FakePrefect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.Handover, "most_waiting", 1)
    prefect.answers.clear()
    sender = threading.Thread(target=receiver.deliver, args=(booking(1),))
    sender.start()
    prefect.asked.wait(10)
    with httpx.Client(trust_env=False) as http:
        body = json.dumps(booking(2)).encode()
        assert http.post(receiver.url, content=body, headers=receiver.headers(body)).status_code == 503
    prefect.answers.set()
    sender.join()
    assert receiver.counted("deliveries_rejected_total", reason="busy") == 1
    assert receiver.deliver(booking(2)).json() == {"status": "accepted"}


def test_a_store_that_gives_no_answer_is_no_event_in_prefect(
    prefect: FakePrefect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "_LOCK_SECONDS", 0.05)
    path = tmp_path / "receiver.db"
    with running(settings(path), prefect.url) as receiver:
        with database(path) as other:
            other.execute("BEGIN IMMEDIATE")
            assert receiver.deliver(booking(1)).status_code == 503
        assert receiver.counted("deliveries_rejected_total", reason="store_unavailable") == 1
        assert not prefect.told
        assert receiver.deliver(booking(1)).json() == {"status": "accepted"}


def test_a_mistake_of_ours_in_a_batch_is_not_the_last_of_the_receiver(
    receiver: Receiver, prefect: FakePrefect, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> Any:
        raise RuntimeError("it broke")

    with monkeypatch.context() as patched:
        patched.setattr(store_module.EventStore, "add", broken)
        assert receiver.deliver(booking(1)).status_code == 500
    assert receiver.deliver(booking(1)).json() == {"status": "accepted"}


def test_what_answers_but_is_no_prefect_has_taken_nothing(receiver: Receiver, prefect: FakePrefect) -> None:
    prefect.status = 200
    assert receiver.deliver(booking(1)).status_code == 503
    prefect.status = 0
    until(confirmed(receiver, 1), 20)
    assert prefect.told == dict.fromkeys(ids(booking(1)), 1)


# What Prefect has taken is not there yet


def test_what_prefect_took_and_forgot_is_given_again(receiver: Receiver, prefect: FakePrefect) -> None:
    prefect.forgets = True
    deliveries = [booking(number) for number in range(60)]
    assert {receiver.deliver(each).status_code for each in deliveries} == {200}
    assert not prefect.stored
    prefect.forgets = False
    until(confirmed(receiver, 60), 20)
    assert prefect.stored.keys() == ids(*deliveries)
    assert receiver.counted("events_reposted_total") >= 60
    assert receiver.deliver(deliveries[0]).json() == {"status": "duplicate"}


def test_what_was_forgotten_is_given_again_as_soon_as_later_events_are_there(
    prefect: FakePrefect, tmp_path: Path
) -> None:
    patient = settings(tmp_path / "receiver.db", again_seconds=0.5)
    with running(patient, prefect.url) as receiver:
        prefect.forgets = True
        receiver.deliver(booking("lost"))
        prefect.forgets = False
        with database(tmp_path / "receiver.db") as store:
            store.execute("UPDATE calendly_receiver_events SET posted_at = posted_at - 100")
        receiver.deliver(booking("later"))
        until(lambda: prefect.stored.keys() == ids(booking("lost"), booking("later")), 20)


def test_a_prefect_that_is_behind_is_not_told_twice(prefect: FakePrefect, tmp_path: Path) -> None:
    # It stores, one after the other, what it was told long ago; nothing that came later is there yet.
    path = tmp_path / "receiver.db"
    with running(settings(path, again_seconds=10), prefect.url) as receiver:
        prefect.forgets = True
        deliveries = [booking(number) for number in range(12)]
        for delivery in deliveries:
            receiver.deliver(delivery)
        with database(path) as store:
            rows = store.execute("SELECT id, body FROM calendly_receiver_events ORDER BY posted_at").fetchall()
            store.execute("UPDATE calendly_receiver_events SET posted_at = posted_at - 60 WHERE posted_at IS NOT NULL")
        for ident, body in rows:
            time.sleep(0.12)
            prefect.stored[UUID(ident)] = json.loads(body)
        until(confirmed(receiver, 12), 20)
        assert receiver.counted("events_reposted_total") == 0
    assert set(prefect.told.values()) == {1}


def test_what_prefect_forgets_because_it_is_old_is_not_given_again(prefect: FakePrefect, tmp_path: Path) -> None:
    path = tmp_path / "receiver.db"
    with running(settings(path, confirm_seconds=60), prefect.url) as receiver:
        receiver.deliver(booking(1))
    with database(path) as store:
        store.execute("UPDATE calendly_receiver_events SET posted_at = posted_at - 600000")
    prefect.stored.clear()
    with running(settings(path), prefect.url) as receiver:
        until(confirmed(receiver, 1), 20)
    assert set(prefect.told.values()) == {1}


def test_an_event_that_expires_before_it_was_seen_is_lost_aloud(
    prefect: FakePrefect, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "receiver.db"
    with running(settings(path), prefect.url) as receiver:
        prefect.stop()
        receiver.deliver(booking(1))
    with database(path) as store:
        store.execute("UPDATE calendly_receiver_events SET received_at = received_at - 30 * 86400 - 1")
    with running(settings(path), prefect.url) as receiver:
        until(lambda: receiver.counted("events_lost_total") == 2, 20)
    lost = [each.fields for each in caplog.records if "expired" in each.getMessage()]  # type: ignore[attr-defined]
    assert {"id": str(*ids(booking(1)))} in lost  # beside the summary


def test_an_event_that_is_refused_when_it_is_given_again_is_left_alone_for_a_while(
    receiver: Receiver, prefect: FakePrefect, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefect.refuses = lambda event: True
    assert receiver.deliver(booking(1)).status_code == 503
    until(lambda: receiver.counted("events_refused_total") == 2, 20)
    posts = prefect.posts
    assert receiver.deliver(booking(2)).status_code == 503
    until(lambda: receiver.counted("events_refused_total") == 4, 20)
    assert prefect.posts == posts + 2


# Receivers that are killed, and several


def test_a_receiver_that_was_killed_in_the_middle_of_a_hand_over_has_lost_nothing(
    prefect: FakePrefect, tmp_path: Path
) -> None:
    path = tmp_path / "receiver.db"
    prefect.answers.clear()
    with process(path, prefect.url) as first:

        def send() -> None:
            with contextlib.suppress(httpx.HTTPError):
                first.deliver(booking(1))

        sender = threading.Thread(target=send)
        sender.start()
        prefect.asked.wait(30)
        assert first.process is not None
        first.process.send_signal(signal.SIGKILL)
        sender.join()
    prefect.stop()
    prefect.answers.set()
    prefect.start()
    assert not prefect.told
    with running(settings(path), prefect.url) as second:
        until(confirmed(second, 1), 20)
        assert second.deliver(booking(1)).json() == {"status": "duplicate"}
    assert prefect.told == dict.fromkeys(ids(booking(1)), 1)


def test_what_a_killed_receiver_has_given_already_is_not_given_again(prefect: FakePrefect, tmp_path: Path) -> None:
    path = tmp_path / "receiver.db"
    with running(settings(path, confirm_seconds=60), prefect.url) as first:
        first.deliver(booking(1))
    with database(path) as store:  # it was killed before it could write down that Prefect has it
        store.execute("UPDATE calendly_receiver_events SET posted_at = NULL")
    with running(settings(path, confirm_seconds=60), prefect.url) as second:
        assert second.deliver(booking(1)).json() == {"status": "duplicate"}
    assert set(prefect.told.values()) == {1}


async def test_two_receivers_on_one_store_make_one_event_of_a_delivery(prefect: FakePrefect, store_url: str) -> None:
    gone = delivered("invitee.canceled", canceled(OLD, rescheduled=True, new_invitee=NEW))
    come = delivered("invitee.created", invitee(NEW, old_invitee=OLD))
    deliveries = [*(booking(number) for number in range(40)), gone, come]
    both = [booking(f"both{number}") for number in range(20)]
    patient = settings(store_url, handover_seconds=20)
    with running(patient, prefect.url) as one, running(patient, prefect.url) as two:
        firsts = await one.deliver_all(deliveries[:30])
        again = await two.deliver_all(deliveries)
        assert {answer.status_code for answer in (*firsts, *again)} == {200}
        assert [answer.json()["status"] for answer in again] == ["duplicate"] * 30 + ["accepted"] * 12
        assert prefect.told == dict.fromkeys(ids(*deliveries), 1)
        # Told by both at the same time Prefect may be; by its id it knows that it is the same.
        answers = await asyncio.gather(one.deliver_all(both), two.deliver_all(both))
        assert {answer.status_code for some in answers for answer in some} == {200}
        until(lambda: not one.counted("events_unconfirmed") and not two.counted("events_unconfirmed"), 20)
        assert prefect.stored.keys() == ids(*deliveries, *both)


# A real Prefect


async def test_a_real_prefect_has_each_event_once_and_shows_it_to_the_receiver(
    prefect_server: None, tmp_path: Path
) -> None:
    organization = f"{API}/organizations/{uuid4().hex}"
    api = get_current_settings().api.url
    assert api is not None
    with running(
        settings(tmp_path / "receiver.db", organization=organization, again_seconds=60, handover_seconds=30), api
    ) as receiver:
        assert receiver.get("/readyz").status_code == 200
        deliveries = [booking(uuid4().hex) for _ in range(25)]
        answers = await receiver.deliver_all([*deliveries, *deliveries])
        statuses = sorted(answer.json()["status"] for answer in answers)
        assert statuses == ["accepted"] * 25 + ["duplicate"] * 25
        until(confirmed(receiver, 25), 60)
        assert receiver.counted("events_reposted_total") == 0
        async with get_client() as client:
            related = {"resources_in_roles": [[f"calendly.organization.{organization[-32:]}", "organization"]]}
            wanted = {"related": related, "occurred": {"since": "2020-01-01T00:00:00Z", "until": _soon()}}
            body = {"filter": wanted, "limit": 50}
            found = (await client.request("POST", "/events/filter", json=body)).json()
    assert found["total"] == 25
    assert {UUID(each["id"]) for each in found["events"]} == ids(*deliveries)


def _soon() -> str:
    now = datetime.now(UTC)
    return now.replace(year=now.year + 5, day=1).isoformat()
