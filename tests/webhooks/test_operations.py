"""What the receiver shows to those who run it: health, readiness, metrics, logs and summaries."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from prefect_calendly.webhooks.signature import HEADER
from tests.webhooks.examples import PRIVATE, delivered, first_id, new_booking
from tests.webhooks.fake_prefect import SUMMARY, FakePrefect
from tests.webhooks.running import KEY, Receiver, eventually, running, settings


def test_it_is_healthy_and_ready_when_all_parts_are_there(shared: Receiver) -> None:
    assert (shared.get("/healthz").status_code, shared.get("/healthz").json()) == (200, {"status": "ok"})
    parts = {"signing_key": "ok", "store": "ok", "prefect": "ok"}
    assert (shared.get("/readyz").status_code, shared.get("/readyz").json()) == (200, {"status": "ready", **parts})


def test_it_says_which_part_is_missing(receiver: Receiver, prefect: FakePrefect) -> None:
    prefect.stop()
    eventually(lambda: receiver.get("/readyz").status_code == 503)
    parts = {"signing_key": "ok", "store": "ok", "prefect": "unavailable"}
    assert receiver.get("/readyz").json() == {"status": "not ready", **parts}
    assert receiver.get("/healthz").status_code == 200
    prefect.start()
    eventually(lambda: receiver.get("/readyz").status_code == 200)


def test_a_page_at_prefects_address_that_is_no_prefect_is_not_ready_and_gets_nothing(
    hasty: Receiver, prefect: FakePrefect
) -> None:
    prefect.page = "<title>Sign in</title>"
    assert hasty.get("/readyz").json()["prefect"] == "unavailable"
    answer = hasty.deliver(new_booking())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
    assert "PREFECT_API_URL" in answer.json()["error"]
    prefect.page = ""
    eventually(lambda: hasty.get("/readyz").status_code == 200)
    assert hasty.deliver(new_booking()).status_code == 200


def test_a_prefect_that_is_ready_and_takes_no_events_is_not_ready(hasty: Receiver, prefect: FakePrefect) -> None:
    eventually(lambda: hasty.get("/readyz").status_code == 200)
    prefect.status = 200  # of a page; Prefect answers 204
    assert hasty.deliver(new_booking()).status_code == 503
    assert hasty.get("/readyz").json()["prefect"] == "unavailable"
    prefect.status = 0
    eventually(lambda: hasty.get("/readyz").status_code == 200)


def test_a_store_that_cannot_be_written_is_not_ready(receiver: Receiver, tmp_path: Path) -> None:
    (tmp_path / "receiver.db").unlink()
    answer = receiver.deliver(new_booking())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
    assert "restart the receiver" in answer.json()["error"]
    assert receiver.get("/readyz").json()["store"] == "unavailable"


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
    receiver.http.post(receiver.url, content=b"Jane", headers={"content-type": "application/json", HEADER: signature})
    assert receiver.counted("deliveries_accepted_total", event="invitee.created") == 1
    assert receiver.counted("deliveries_accepted_total", event="contact.updated") == 1
    assert receiver.counted("deliveries_duplicate_total") == 1
    assert receiver.counted("deliveries_rejected_total") == 2
    assert receiver.counted("deliveries_received_total") == 5
    assert receiver.counted("handover_seconds_count") == 3
    assert receiver.counted("last_delivery_timestamp_seconds") == pytest.approx(time.time(), abs=60)
    assert receiver.counted("signing_keys") == 1
    eventually(lambda: receiver.counted("events_confirmed_total") == 2 and receiver.counted("events_unconfirmed") == 0)
    ours = [each for each in caplog.records if each.name.startswith("prefect_calendly")]
    logged = " ".join(f"{each.getMessage()} {getattr(each, 'fields', '')}" for each in ours)
    assert str(first_id(body)) in logged
    shown = f"{logged} {receiver.get('/metrics').text}"
    for word in ("Jane", "Doe", "@", "Shop.Example", KEY, signature[-64:], *PRIVATE):
        assert word.lower() not in shown.lower()


def test_prefect_is_told_what_has_happened_from_time_to_time_and_at_the_end(
    prefect: FakePrefect, tmp_path: Path
) -> None:
    bodies = [new_booking() for _ in range(3)]
    hurried = settings(tmp_path / "receiver.db", summary_seconds=0.3, name="north")

    def summaries_so_far() -> list[dict[str, Any]]:
        return [each["payload"] for each in prefect.named(SUMMARY)]

    with running(hurried, prefect.url) as receiver:
        for body in (*bodies[:2], bodies[0], bodies[0]):
            receiver.deliver(body)
        receiver.deliver(bodies[1], key="another")
        eventually(lambda: sum(each["rejected"].get("signature_wrong", 0) for each in summaries_so_far()) == 1)
        eventually(lambda: receiver.counted("events_unconfirmed") == 0)
        receiver.deliver(bodies[2])
    summaries = summaries_so_far()
    assert sum(each["accepted"] for each in summaries) == 3
    assert sum(each["duplicates"] for each in summaries) == 2
    assert {ident for each in summaries for ident in each["duplicate_ids"]} == {str(first_id(bodies[0]))}
    assert all(each.keys() >= {"since", "until", "last_delivery_at"} for each in summaries)
    assert all(each["since"] < each["until"] for each in summaries)
    # One with nothing in it is not told.
    assert all(each["accepted"] or each["duplicates"] or each["rejected"] for each in summaries)
    (resource,) = {each["resource"]["prefect.resource.id"] for each in prefect.named(SUMMARY)}
    assert resource == "calendly.receiver.north"
