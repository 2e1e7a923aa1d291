"""Events that Prefect has taken are confirmed, and those that it has lost are posted again."""

from __future__ import annotations

import json
import time
from pathlib import Path
from uuid import UUID

import pytest

from tests.webhooks.examples import booking, event_ids
from tests.webhooks.fake_prefect import FakePrefect
from tests.webhooks.running import Receiver, confirmed, database, eventually, running, settings


def age(path: Path, column: str, seconds: float) -> None:
    """Let events have come, or have been posted, so much earlier."""
    with database(path) as store:
        store.execute(f"UPDATE calendly_receiver_events SET {column} = {column} - {seconds}")


def test_what_prefect_took_and_lost_is_posted_again(receiver: Receiver, prefect: FakePrefect) -> None:
    prefect.forgets = True
    deliveries = [booking(number) for number in range(60)]  # more than it asks for at once
    assert {receiver.deliver(each).status_code for each in deliveries} == {200}
    assert not prefect.stored
    prefect.forgets = False
    eventually(confirmed(receiver, 60))
    assert prefect.stored.keys() == event_ids(*deliveries)
    assert receiver.counted("events_reposted_total") >= 60
    assert receiver.deliver(deliveries[0]).json() == {"status": "duplicate"}


def test_what_was_lost_is_posted_again_as_soon_as_later_events_are_there(prefect: FakePrefect, tmp_path: Path) -> None:
    path = tmp_path / "receiver.db"
    with running(settings(path, repost_after_seconds=50), prefect.url) as receiver:
        prefect.forgets = True
        receiver.deliver(booking("lost"))
        prefect.forgets = False
        age(path, "posted_at", 100)
        receiver.deliver(booking("later"))
        eventually(lambda: prefect.stored.keys() == event_ids(booking("lost"), booking("later")))


def test_a_prefect_that_is_behind_does_not_get_events_twice(prefect: FakePrefect, tmp_path: Path) -> None:
    # It stores, one after the other, what it got long ago; nothing that came later is there yet.
    path = tmp_path / "receiver.db"
    with running(settings(path, repost_after_seconds=30), prefect.url) as receiver:
        prefect.forgets = True
        deliveries = [booking(number) for number in range(8)]
        for delivery in deliveries:
            receiver.deliver(delivery)
        with database(path) as store:
            rows = store.execute("SELECT id, body FROM calendly_receiver_events ORDER BY posted_at").fetchall()
        age(path, "posted_at", 100)
        for ident, body in rows:
            time.sleep(0.06)  # so that it asks in between
            prefect.stored[UUID(ident)] = json.loads(body)
        eventually(confirmed(receiver, 8))
        assert receiver.counted("events_reposted_total") == 0
    assert set(prefect.accepted.values()) == {1}


def test_an_event_that_prefect_takes_and_cannot_store_takes_no_others_along(
    receiver: Receiver, prefect: FakePrefect
) -> None:
    (bad,) = event_ids(booking("bad"))
    prefect.forgets = True
    deliveries = [booking(number) for number in (*range(6), "bad", *range(6, 12))]
    assert {receiver.deliver(each).status_code for each in deliveries} == {200}
    prefect.drops = lambda event: UUID(event["id"]) == bad
    prefect.forgets = False
    eventually(lambda: prefect.stored.keys() == event_ids(*deliveries) - {bad})
    prefect.drops = lambda event: False
    assert receiver.counted("events_lost_total") == 0


def test_what_prefect_has_deleted_because_it_is_old_is_not_posted_again(prefect: FakePrefect, tmp_path: Path) -> None:
    path = tmp_path / "receiver.db"
    with running(settings(path, confirm_after_seconds=60), prefect.url) as receiver:
        receiver.deliver(booking(1))
    age(path, "posted_at", 600_000)
    prefect.stored.clear()
    with running(settings(path), prefect.url) as receiver:
        eventually(confirmed(receiver, 1))
    assert set(prefect.accepted.values()) == {1}


def test_an_event_that_expires_before_it_was_seen_is_counted_and_logged_as_lost(
    prefect: FakePrefect, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "receiver.db"
    with running(settings(path, handover_seconds=0.2), prefect.url) as receiver:
        prefect.stop()
        receiver.deliver(booking(1))
    age(path, "received_at", 30 * 86_400 + 1)
    with running(settings(path, handover_seconds=0.2), prefect.url) as receiver:
        eventually(lambda: receiver.counted("events_lost_total") == 2)
    lost = [each.fields for each in caplog.records if "expired" in each.getMessage()]  # type: ignore[attr-defined]
    assert {"id": str(*event_ids(booking(1)))} in lost  # beside the summary


def test_an_event_that_prefect_refuses_again_is_left_alone_for_a_while(
    receiver: Receiver, prefect: FakePrefect
) -> None:
    prefect.refuses = lambda event: True
    assert receiver.deliver(booking(1)).status_code == 503
    eventually(lambda: receiver.counted("events_refused_total") == 2)
    posts = prefect.posts
    assert receiver.deliver(booking(2)).status_code == 503
    eventually(lambda: receiver.counted("events_refused_total") == 4)
    assert prefect.posts == posts + 2
