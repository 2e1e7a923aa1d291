"""Handing over: each event once, and none lost, whatever happens to Prefect, the store or the receiver."""

from __future__ import annotations

import asyncio
import json
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import get_current_settings

from prefect_calendly.webhooks.store import EventStore
from tests.webhooks.examples import API, NEW, OLD, booking, canceled, delivered, event_ids, invitee
from tests.webhooks.fake_prefect import FakePrefect
from tests.webhooks.running import Receiver, confirmed, database, eventually, local_client, running, settings


def send(receiver: Receiver, number: int | str, answers: list[int] | None = None) -> threading.Thread:
    """Deliver a booking in a thread, over a connection of its own."""
    body = json.dumps(booking(number)).encode()

    def deliver() -> None:
        with local_client() as http:
            answer = http.post(receiver.url, content=body, headers=receiver.headers(body))
        if answers is not None:
            answers.append(answer.status_code)

    sender = threading.Thread(target=deliver)
    sender.start()
    return sender


async def test_deliveries_that_come_at_once_are_posted_together(prefect: FakePrefect, tmp_path: Path) -> None:
    deliveries = [booking(number) for number in range(80)]
    with running(settings(tmp_path / "receiver.db"), prefect.url) as receiver:
        answers = await receiver.deliver_all(deliveries, at_once=40)
        assert {answer.status_code for answer in answers} == {200}
        assert prefect.stored.keys() == event_ids(*deliveries)
        assert prefect.posts < 40
        eventually(confirmed(receiver, 80))
        assert sum(prefect.accepted.values()) == 80


def test_while_prefect_is_away_deliveries_are_kept_and_calendly_is_asked_to_come_again(
    hasty: Receiver, prefect: FakePrefect
) -> None:
    deliveries = [booking(number) for number in range(3)]
    eventually(lambda: hasty.deliver(deliveries[0]).status_code == 200)
    refused = hasty.counted("deliveries_rejected_total", reason="prefect_unavailable")
    prefect.stop()
    for delivery in deliveries[1:]:
        answer = hasty.deliver(delivery)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
    assert hasty.counted("deliveries_rejected_total", reason="prefect_unavailable") == refused + 2
    prefect.start()
    # Nobody has to come again for the events to arrive.
    eventually(confirmed(hasty, 3))
    assert prefect.stored.keys() == event_ids(*deliveries)
    assert [hasty.deliver(each).json() for each in deliveries] == [{"status": "duplicate"}] * 3
    assert set(prefect.accepted.values()) == {1}


@pytest.mark.parametrize("status", [401, 500])
def test_a_prefect_that_answers_with_an_error_is_away(hasty: Receiver, prefect: FakePrefect, status: int) -> None:
    prefect.status = status
    assert hasty.deliver(booking(1)).status_code == 503
    assert not prefect.stored
    prefect.status = 0
    eventually(lambda: hasty.deliver(booking(1)).status_code == 200)
    assert prefect.stored.keys() == event_ids(booking(1))


def test_something_else_at_prefects_url_that_answers_200_has_taken_nothing(
    hasty: Receiver, prefect: FakePrefect
) -> None:
    prefect.status = 200
    assert hasty.deliver(booking(1)).status_code == 503
    prefect.status = 0
    eventually(confirmed(hasty, 1))
    assert prefect.accepted == dict.fromkeys(event_ids(booking(1)), 1)


def test_one_failure_of_prefect_is_overcome_before_calendly_sees_it(receiver: Receiver, prefect: FakePrefect) -> None:
    prefect.status = 500
    answers: list[int] = []
    sender = send(receiver, 1, answers)
    prefect.asked.wait(30)
    prefect.status = 0
    sender.join()
    assert answers == [200]
    assert prefect.accepted == dict.fromkeys(event_ids(booking(1)), 1)


def test_a_prefect_that_hangs_makes_nobody_wait_for_long(hasty: Receiver, prefect: FakePrefect) -> None:
    prefect.answers.clear()
    assert hasty.deliver(booking(1)).status_code == 503
    assert hasty.get("/healthz").status_code == 200
    prefect.answers.set()
    eventually(lambda: prefect.stored.keys() == event_ids(booking(1)))
    eventually(lambda: hasty.deliver(booking(1)).json() == {"status": "duplicate"})


def test_an_event_that_prefect_refuses_does_not_hold_up_the_others(
    receiver: Receiver, prefect: FakePrefect, caplog: pytest.LogCaptureFixture
) -> None:
    bad = f"{API}/scheduled_events/EVENT7/invitees/INVITEE7"
    prefect.refuses = lambda event: event["resource"].get("calendly.uri") == bad
    prefect.answers.clear()
    answers: dict[int, list[int]] = {number: [] for number in range(10)}
    senders = [send(receiver, number, its) for number, its in answers.items()]
    eventually(lambda: receiver.counted("deliveries_waiting") == 10)
    prefect.answers.set()
    for sender in senders:
        sender.join()
    assert answers == {number: [503 if number == 7 else 200] for number in range(10)}
    assert receiver.counted("events_refused_total") >= 1
    assert receiver.counted("deliveries_rejected_total", reason="prefect_refused") == 1
    refusals = [each.fields for each in caplog.records if "refuses an event" in each.getMessage()]  # type: ignore[attr-defined]
    assert {"id": str(*event_ids(booking(7)))} in refusals
    assert "secret-password" not in caplog.text
    # Now it may be taken: when Calendly comes again, if the receiver has not posted it once more before.
    prefect.refuses = lambda event: False
    assert receiver.deliver(booking(7)).json()["status"] in ("accepted", "duplicate")
    eventually(lambda: event_ids(booking(7)) <= prefect.stored.keys())


def test_when_too_many_deliveries_wait_more_are_sent_away_at_once(prefect: FakePrefect, tmp_path: Path) -> None:
    with running(settings(tmp_path / "receiver.db", max_waiting=1), prefect.url) as receiver:
        prefect.answers.clear()
        sender = send(receiver, 1)
        prefect.asked.wait(30)
        assert receiver.deliver(booking(2)).status_code == 503
        prefect.answers.set()
        sender.join()
        assert receiver.counted("deliveries_rejected_total", reason="busy") == 1
        assert receiver.deliver(booking(2)).json() == {"status": "accepted"}


def test_while_the_store_does_not_answer_nothing_is_posted(prefect: FakePrefect, tmp_path: Path) -> None:
    path = tmp_path / "receiver.db"
    with running(settings(path, lock_seconds=0.05), prefect.url) as receiver:
        with database(path) as other:
            other.execute("BEGIN IMMEDIATE")
            assert receiver.deliver(booking(1)).status_code == 503
        assert receiver.counted("deliveries_rejected_total", reason="store_unavailable") == 1
        assert not prefect.accepted
        eventually(lambda: receiver.deliver(booking(1)).json() == {"status": "accepted"})


def test_an_internal_error_in_a_batch_does_not_stop_the_receiver(
    receiver: Receiver, prefect: FakePrefect, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> Any:
        raise RuntimeError("it broke")

    with monkeypatch.context() as patched:
        patched.setattr(EventStore, "add", broken)
        assert receiver.deliver(booking(1)).status_code == 500
    assert receiver.deliver(booking(1)).json() == {"status": "accepted"}


# Receivers that end in the middle, and several


def test_what_a_receiver_had_not_posted_when_it_ended_the_next_one_posts(prefect: FakePrefect, tmp_path: Path) -> None:
    path = tmp_path / "receiver.db"
    prefect.stop()
    with running(settings(path, handover_seconds=0.3), prefect.url) as first:
        assert first.deliver(booking(1)).status_code == 503
    prefect.start()
    with running(settings(path), prefect.url) as second:
        eventually(lambda: event_ids(booking(1)) <= prefect.accepted.keys())
        assert second.deliver(booking(1)).json() == {"status": "duplicate"}
    assert prefect.accepted == dict.fromkeys(event_ids(booking(1)), 1)


def test_what_a_killed_receiver_has_posted_already_is_not_posted_again(prefect: FakePrefect, tmp_path: Path) -> None:
    path = tmp_path / "receiver.db"
    with running(settings(path, confirm_after_seconds=60), prefect.url) as first:
        first.deliver(booking(1))
    with database(path) as store:  # it was killed before it could write down that Prefect has it
        store.execute("UPDATE calendly_receiver_events SET posted_at = NULL")
    with running(settings(path, confirm_after_seconds=60), prefect.url) as second:
        assert second.deliver(booking(1)).json() == {"status": "duplicate"}
    assert set(prefect.accepted.values()) == {1}


async def test_two_receivers_on_one_store_make_one_event_of_a_delivery(prefect: FakePrefect, store_url: str) -> None:
    gone = delivered("invitee.canceled", canceled(OLD, rescheduled=True, new_invitee=NEW))
    come = delivered("invitee.created", invitee(NEW, old_invitee=OLD))
    deliveries = [*(booking(number) for number in range(15)), gone, come]
    both = [booking(f"both{number}") for number in range(10)]
    # No confirming: a receiver takes what another one is just posting for something that is left to post.
    calm = settings(store_url, confirm_after_seconds=60)
    with running(calm, prefect.url) as one, running(calm, prefect.url) as two:
        firsts = await one.deliver_all(deliveries[:10])
        again = await two.deliver_all(deliveries)
        assert {answer.status_code for answer in (*firsts, *again)} == {200}
        assert [answer.json()["status"] for answer in again] == ["duplicate"] * 10 + ["accepted"] * 7
        assert prefect.accepted == dict.fromkeys(event_ids(*deliveries), 1)
        # Both may post the same event at the same time; Prefect stores an id once.
        answers = await asyncio.gather(one.deliver_all(both), two.deliver_all(both))
        assert {answer.status_code for some in answers for answer in some} == {200}
        assert prefect.stored.keys() == event_ids(*deliveries, *both)


# A real Prefect


async def test_a_real_prefect_has_each_event_once_and_shows_it_to_the_receiver(
    prefect_server: None, tmp_path: Path
) -> None:
    organization = f"{API}/organizations/{uuid4().hex}"
    api = get_current_settings().api.url
    assert api is not None
    calm = settings(
        tmp_path / "receiver.db", organization=organization, repost_after_seconds=300, confirm_every_seconds=0.5
    )
    with running(calm, api) as receiver:
        assert receiver.get("/readyz").status_code == 200
        deliveries = [booking(uuid4().hex) for _ in range(10)]
        answers = await receiver.deliver_all([*deliveries, *deliveries])
        assert sorted(answer.json()["status"] for answer in answers) == ["accepted"] * 10 + ["duplicate"] * 10
        eventually(confirmed(receiver, 10), 120)
        assert receiver.counted("events_reposted_total") == 0
        async with get_client() as client:
            related = {"resources_in_roles": [[f"calendly.organization.{organization[-32:]}", "organization"]]}
            wanted = {"related": related, "occurred": {"since": "2020-01-01T00:00:00Z", "until": _in_five_years()}}
            body = {"filter": wanted, "limit": 50}
            found = (await client.request("POST", "/events/filter", json=body)).json()
    assert found["total"] == 10
    assert {UUID(each["id"]) for each in found["events"]} == event_ids(*deliveries)


def _in_five_years() -> str:
    now = datetime.now(UTC)
    return now.replace(year=now.year + 5, day=1).isoformat()
