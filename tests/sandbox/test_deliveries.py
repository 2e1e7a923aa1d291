"""Webhook deliveries as a receiver sees them: real POSTs, checked by hand; and what goes wrong with them on demand."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections import Counter
from datetime import timedelta
from itertools import pairwise

import pytest

from prefect_calendly.sandbox import Sandbox
from prefect_calendly.sandbox.deliveries.journal import MAX_FINISHED
from prefect_calendly.sandbox.deliveries.sending import ATTEMPT_SECONDS, sign
from tests.sandbox.conftest import until

KEY = "whsec-1"
NO_SHOWS = ["invitee_no_show.created", "invitee_no_show.deleted"]
EVENTS = ["invitee.created", "invitee.canceled", *NO_SHOWS, "event_type.created"]
APRIL = "2025-04-01T14:00:00Z"


@pytest.fixture
def subscribe(api, far_end):
    """Subscribes the far end to all that the sandbox delivers; members given replace the usual ones.

    One delivery at a time, so that what comes in has an order.
    """

    def request(connection=None, **changes):
        body = {
            "url": far_end.url,
            "events": EVENTS,
            "organization": api.organization,
            "scope": "organization",
            "signing_key": KEY,
            **changes,
        }
        body = {name: value for name, value in body.items() if value is not None}
        answer = api.post("/webhook_subscriptions", body, connection=connection)
        assert answer.status_code == 201, answer.text
        api.sandbox.set_deliveries(at_once=1)
        return answer.json()["resource"]["uri"]

    return request


def bodies(far_end):
    return [json.loads(body) for _, body in far_end.received]


def names(far_end):
    return [body["event"] for body in bodies(far_end)]


def addresses(far_end):
    return [body["payload"]["email"] for body in bodies(far_end)]


def verified(headers, body, key=KEY):
    """The age of a delivery's signature in seconds, checked without the sandbox's code."""
    parts = dict(part.split("=") for part in headers["calendly-webhook-signature"].split(","))
    digest = hmac.new(key.encode(), parts["t"].encode() + b"." + body, hashlib.sha256).hexdigest()
    assert hmac.compare_digest(digest, parts["v1"])
    return time.time() - int(parts["t"])


def book(sandbox, *people, start=APRIL, **members):
    invitees = [{"email": f"{name}@example.com"} for name in people or ("ivy",)]
    return sandbox.add_event(start, invitees=invitees, **members)


def uuid_of(uri):
    return uri.rpartition("/")[2]


# What is delivered


def test_the_signature_is_that_of_the_reference():
    digest = "3d932f86d7b54875275996118c55b3d62cd45cbe9cf2930d3140807f92a48928"
    assert sign("whsec-demo", 1700000000, b'{"event":"invitee.created"}') == f"t=1700000000,v1={digest}"


def test_a_booking_is_delivered_signed_with_the_whole_invitee_and_event(api, far_end, subscribe):
    subscribe()
    now = api.sandbox.set_clock(frozen=True)
    booking = {
        "event_type": api.event_type,
        "start_time": "2025-03-20T15:00:00Z",
        "invitee": {"name": "Zoë ✓", "email": "zoe@example.com", "timezone": "Europe/Berlin"},
        "location": {"kind": "zoom_conference"},
    }
    invitee = api.post("/invitees", booking).json()["resource"]
    api.sandbox.wait_for_deliveries()
    [(headers, raw)] = far_end.received
    assert -1 <= verified(headers, raw) < 60  # the real time, not 2025
    assert headers["content-type"] == "application/json"
    assert "Zoë ✓".encode() in raw
    body = json.loads(raw)
    assert body.keys() == {"event", "created_at", "created_by", "payload"}
    assert (body["event"], body["created_by"]) == ("invitee.created", api.alice)
    assert body["created_at"].startswith(now.isoformat()[:19])
    event = api.resource(invitee["event"])
    event.pop("calendar_event")
    alice = {"user": api.alice, "user_email": "alice.johnson@acme.com", "user_name": "Alice Johnson"}
    assert body["payload"] == {**invitee, "scheduled_event": {**event, "event_memberships": [alice]}}


def test_both_routes_and_the_control_surface_book(api, far_end, subscribe):
    subscribe()
    flat = {"start_time": "2025-03-20T15:00:00Z", "email": "a@example.com", "name": "A", "timezone": "UTC"}
    path = "/event_types/CCCCCCCCCCCCCCCC/invitees"
    assert api.post(path, {**flat, "location": {"kind": "zoom"}}).status_code == 201
    book(api.sandbox, "b", "c")
    book(api.sandbox, "gone", status="canceled")
    api.sandbox.wait_for_deliveries()
    assert names(far_end) == ["invitee.created"] * 3
    assert addresses(far_end) == ["a@example.com", "b@example.com", "c@example.com"]


def test_a_booking_whose_answer_is_lost_is_delivered_all_the_same(api, far_end, subscribe):
    subscribe()
    api.sandbox.fault("error_after", method="POST")
    uri = book(api.sandbox)
    assert api.post(f"{uri}/cancellation", {}).status_code == 500
    api.sandbox.wait_for_deliveries()
    assert names(far_end) == ["invitee.created", "invitee.canceled"]


def test_a_cancellation_stands_on_the_invitee_and_the_event(api, far_end, subscribe):
    subscribe()
    uri = book(api.sandbox, "a", "b")
    cancellation = api.post(f"{uri}/cancellation", {"reason": "ill"}).json()["resource"]
    api.sandbox.wait_for_deliveries()
    canceled = [body["payload"] for body in bodies(far_end) if body["event"] == "invitee.canceled"]
    assert [payload["email"] for payload in canceled] == ["a@example.com", "b@example.com"]
    for payload in canceled:
        assert (payload["status"], payload["rescheduled"]) == ("canceled", False)
        assert payload["cancellation"] == payload["scheduled_event"]["cancellation"] == cancellation
        assert payload["scheduled_event"]["invitees_counter"]["active"] == 0


def test_one_of_a_group_who_leaves_is_the_only_one_told_of(api, far_end, subscribe):
    subscribe(events=["invitee.canceled"])
    uuid = uuid_of(book(api.sandbox, "a", "b"))
    api.sandbox.cancel_event(uuid, invitee="a@example.com")
    api.sandbox.wait_for_deliveries()
    [body] = bodies(far_end)
    assert body["payload"]["cancellation"]["canceler_type"] == "invitee"
    assert body["payload"]["scheduled_event"]["status"] == "active"
    assert "cancellation" not in body["payload"]["scheduled_event"]


def test_a_move_is_a_cancellation_and_a_booking_per_invitee_that_name_each_other(api, far_end, subscribe):
    subscribe()
    old = book(api.sandbox, "a", "b")
    new = api.sandbox.reschedule_event(uuid_of(old), "2025-04-02T14:00:00Z")
    api.sandbox.wait_for_deliveries()
    moves = bodies(far_end)[2:]
    assert [body["event"] for body in moves] == ["invitee.canceled"] * 2 + ["invitee.created"] * 2
    for before, after in zip(moves[:2], moves[2:], strict=True):
        left, came = before["payload"], after["payload"]
        assert left["email"] == came["email"]
        assert (left["event"], came["event"]) == (old, new)
        assert (left["rescheduled"], left["status"], left["new_invitee"]) == (True, "canceled", came["uri"])
        assert (came["rescheduled"], came["status"], came["old_invitee"]) == (False, "active", left["uri"])


def test_no_shows_come_and_go(api, far_end, subscribe):
    subscribe(events=NO_SHOWS)
    past = book(api.sandbox, start="2025-03-10T14:00:00Z")
    (invitee,) = api.everything(f"{past}/invitees")
    mark = api.post("/invitee_no_shows", {"invitee": invitee["uri"]}).json()["resource"]
    api.request("DELETE", mark["uri"])
    api.sandbox.wait_for_deliveries()
    api.sandbox.mark_no_show(uuid_of(past))
    api.sandbox.mark_no_show(uuid_of(past), undo=True)
    api.sandbox.wait_for_deliveries()
    assert names(far_end) == NO_SHOWS * 2
    made, undone = (body["payload"] for body in bodies(far_end)[:2])
    assert made["no_show"] == {"uri": mark["uri"], "created_at": mark["created_at"]}
    assert undone["no_show"] is None
    assert made["uri"] == undone["uri"] == invitee["uri"]
    assert undone["scheduled_event"]["uri"] == past


def test_a_new_event_type_is_delivered(api, far_end, subscribe):
    subscribe()
    uri = api.sandbox.add_event_type("Long Talk", duration=90)
    api.sandbox.wait_for_deliveries()
    [body] = bodies(far_end)
    event_type = api.resource(uri)
    event_type.pop("description_html")
    assert (body["event"], body["payload"]) == ("event_type.created", event_type)


def test_without_a_signing_key_there_is_no_signature(api, far_end, subscribe):
    subscribe(signing_key=None)
    book(api.sandbox)
    api.sandbox.wait_for_deliveries()
    assert "calendly-webhook-signature" not in far_end.received[0][0]


# To whom


def test_only_what_was_subscribed_in_its_scope(api, far_end, subscribe):
    members = [user["user"]["email"] for user in api.everything("/organization_memberships", **scope(api))]
    outsider = members[-1]  # the group is Alice and the first two
    ours = {"host": api.alice}
    for path, changes in {
        "organization": {},
        "user": {"scope": "user", "user": api.alice},
        "group": {"scope": "group", "group": api.group},
        "other": {"scope": "user", "user": api.zoe, "organization": OTHER, "connection": api.second_connection},
    }.items():
        subscribe(url=f"{far_end.url}/{path}", events=["invitee.created"], **changes)
    book(api.sandbox, **ours)
    book(api.sandbox, host=outsider)
    book(api.sandbox, host=members[1])
    api.sandbox.cancel_event(uuid_of(book(api.sandbox, host=api.zoe, event_type=coffee(api))))
    found = api.sandbox.wait_for_deliveries()["deliveries"]
    hooks = {item["uri"]: item["callback_url"] for item in api.sandbox.state()["webhook_subscription_list"]}
    by_hook = Counter(hooks[item["subscription"]].rpartition("/")[2] for item in found)
    assert by_hook == {"organization": 3, "user": 1, "group": 2, "other": 1}
    assert set(names(far_end)) == {"invitee.created"}


OTHER = "https://api.calendly.com/organizations/SSSSSSSSSSSSSSSS"


def scope(api):
    return {"organization": api.organization}


def coffee(api):
    listing = api.get("/event_types", user=api.zoe, connection=api.second_connection).json()
    return listing["collection"][0]["uri"]


def test_seeding_and_a_reset_deliver_nothing_and_a_reset_forgets_what_was_pending(api, far_end, subscribe):
    subscribe()
    api.sandbox.set_deliveries(paused=True, drop=3)
    book(api.sandbox, "a", "b", "c", "d")
    assert api.sandbox.deliveries()["pending"] == 1
    api.sandbox.reset()
    found = api.sandbox.deliveries()
    assert (found["pending"], found["deliveries"], found["by_event"]) == (0, [], {})
    assert (found["settings"]["paused"], found["settings"]["drop"]) == (False, 0)
    subscribe(url=f"{far_end.url}/again")
    assert api.sandbox.wait_for_deliveries()["delivered"] == 0
    assert far_end.received == []


def test_names_set_aside_for_examples_hear_nothing(api, subscribe):
    for url in ("https://hooks.example.com/x", "https://my.example/x", "https://example.net"):
        subscribe(url=url)
    book(api.sandbox)
    found = api.sandbox.deliveries()
    assert (found["pending"], found["deliveries"]) == (0, [])


def test_whoever_books_does_not_wait_for_the_delivery(api, far_end, subscribe):
    subscribe()
    far_end.open.clear()
    uri = book(api.sandbox)
    assert api.resource(uri)["status"] == "active"
    assert api.sandbox.deliveries()["pending"] == 1
    with pytest.raises(TimeoutError, match="1 deliveries are still pending"):
        api.sandbox.wait_for_deliveries(timeout=0.05)
    far_end.open.set()
    assert api.sandbox.wait_for_deliveries()["delivered"] == 1


def test_deliveries_go_out_side_by_side_but_not_all_at_once(api, far_end, subscribe):
    subscribe()
    api.sandbox.set_deliveries(at_once=3)
    far_end.open.clear()
    api.sandbox.burst(10)
    until(lambda: len(far_end.received) >= 3)
    assert api.sandbox.deliveries(limit=1)["in_flight"] == 3
    far_end.open.set()
    api.sandbox.wait_for_deliveries()
    assert (len(far_end.received), far_end.most_at_once) == (10, 3)


def test_one_at_a_time_they_come_in_order(api, far_end, subscribe):
    subscribe()
    uris = api.sandbox.burst(30)
    api.sandbox.wait_for_deliveries()
    assert [body["payload"]["uri"] for body in bodies(far_end)] == uris


# Repeated until accepted


@pytest.mark.parametrize("status", [500, 404, 302])
def test_what_is_not_accepted_is_repeated_ever_more_slowly(api, far_end, subscribe, status):
    hook = subscribe()
    began = api.sandbox.set_clock(frozen=True)
    far_end.statuses = [status, 200, status, status]
    book(api.sandbox)
    book(api.sandbox, "other")  # goes out all the same
    settled(api, 2)
    assert api.resource(hook)["retry_started_at"] is None  # the other one's success has cleared it
    for attempts, pause in ((3, 30), (4, 60)):
        api.sandbox.set_clock(advance_seconds=pause - 1)
        assert settled(api, attempts - 1) == attempts - 1
        api.sandbox.set_clock(advance_seconds=1)
        assert settled(api, attempts) == attempts
        item = api.resource(hook)
        assert (item["state"], item["retry_started_at"]) == ("active", item["updated_at"])
        if attempts == 3:
            first_failure = item["retry_started_at"]
    assert item["retry_started_at"] == first_failure
    api.sandbox.set_clock(advance_seconds=120)
    found = api.sandbox.wait_for_deliveries()
    assert (found["failed_attempts"], found["delivered"]) == (3, 2)
    assert api.resource(hook)["retry_started_at"] is None
    assert api.sandbox.clock() - began < timedelta(minutes=5)
    for headers, raw in far_end.received:
        assert verified(headers, raw) < 60


def settled(api, attempts):
    """Wait until at least so many attempts have ended and none is in flight; return how many have."""

    def ended():
        found = api.sandbox.deliveries()
        return sum(found["by_status"].values()) if not found["in_flight"] else 0

    return until(lambda: number if (number := ended()) >= attempts else 0)


def test_a_receiver_that_is_down_is_tried_again(api, far_end, subscribe):
    subscribe()
    far_end.stop()
    book(api.sandbox)
    settled(api, 1)
    [item] = api.sandbox.deliveries()["deliveries"]
    assert (item["state"], item["attempts"], item["last_status"], item["last_error"]) == (
        *("pending", 1, None),
        "ConnectError",
    )
    assert item["next_attempt_at"] > api.sandbox.clock().isoformat()[:19]


def test_after_a_day_without_success_the_subscription_is_disabled_for_good(api, far_end, subscribe):
    hook, other = subscribe(), subscribe(url=f"{far_end.url}/other", events=NO_SHOWS)
    far_end.statuses = [500] * 1000
    api.sandbox.set_clock(frozen=True)
    book(api.sandbox)
    book(api.sandbox)
    attempts = settled(api, 2)
    for _ in range(11):
        api.sandbox.set_clock(advance_seconds=7200)
        attempts = settled(api, attempts + 2)
    assert api.resource(hook)["state"] == "active"
    api.sandbox.set_clock(advance_seconds=7200)
    assert api.resource(hook)["state"] == "disabled"
    assert api.resource(hook)["retry_started_at"] is not None
    assert len(far_end.received) == attempts == 24
    found = api.sandbox.wait_for_deliveries()
    assert (found["pending"], found["dropped"], found["delivered"]) == (0, 2, 0)
    far_end.statuses = []
    past = book(api.sandbox, start="2025-03-10T14:00:00Z")
    api.sandbox.mark_no_show(uuid_of(past))
    api.sandbox.wait_for_deliveries()
    assert names(far_end)[attempts:] == ["invitee_no_show.created"]  # the other one's
    assert (api.resource(hook)["state"], api.resource(other)["state"]) == ("disabled", "active")


def test_repeating_and_disabling_happen_by_themselves_when_their_time_has_come(api, far_end, subscribe):
    hook = subscribe()
    api.sandbox.set_clock(speed=3600)
    far_end.statuses = [500]
    book(api.sandbox)
    found = api.sandbox.wait_for_deliveries()
    assert found["by_status"] == {"500": 1, "200": 1}
    far_end.statuses = [500] * 1000
    api.sandbox.set_clock(speed=1_000_000)
    book(api.sandbox)
    until(lambda: api.resource(hook)["state"] == "disabled")
    until(lambda: api.sandbox.deliveries()["dropped"] == 1)  # its last attempt may still be in flight


def test_a_delivery_that_is_never_accepted_does_not_disable_what_accepts_others(api, far_end, subscribe):
    hook = subscribe()
    api.sandbox.set_clock(frozen=True)
    far_end.statuses = [500]
    book(api.sandbox, "poison")
    attempts = settled(api, 1)
    for _ in range(12):
        far_end.statuses = [500]
        api.sandbox.set_clock(advance_seconds=7200)
        attempts = settled(api, attempts + 1)
        book(api.sandbox, "good")
        attempts = settled(api, attempts + 1)
    found = api.sandbox.wait_for_deliveries()
    assert (found["delivered"], found["dropped"]) == (12, 1)
    assert (api.resource(hook)["state"], api.resource(hook)["retry_started_at"]) == ("active", None)


def test_a_booking_is_not_repeated_a_day_after_the_event(api, far_end, subscribe):
    subscribe()
    far_end.statuses = [500, 500]
    past = book(api.sandbox, start="2025-03-12T14:00:00Z")
    found = api.sandbox.wait_for_deliveries()
    assert (found["failed_attempts"], found["dropped"]) == (1, 1)
    api.sandbox.mark_no_show(uuid_of(past))  # this one is still worth it
    settled(api, 2)
    assert api.sandbox.deliveries()["pending"] == 1


def test_a_subscription_that_is_deleted_or_disabled_gets_nothing_more(api, far_end, subscribe):
    hook = subscribe()
    other = subscribe(url=f"{far_end.url}/other")
    api.sandbox.set_deliveries(paused=True)
    book(api.sandbox, "a", "b")
    assert api.sandbox.deliveries()["pending"] == 4
    assert api.request("DELETE", hook).status_code == 204
    api.sandbox.set_webhook(uuid_of(other), state="disabled")
    found = api.sandbox.wait_for_deliveries()
    assert (found["pending"], found["dropped"]) == (0, 4)
    api.sandbox.set_deliveries(paused=False)
    api.sandbox.set_webhook(uuid_of(other), state="active")
    book(api.sandbox, "c")
    api.sandbox.wait_for_deliveries()
    assert addresses(far_end) == ["c@example.com"]


def test_a_delivery_in_flight_does_not_keep_the_server_from_stopping(far_end, http):
    with Sandbox(events=0) as sandbox:
        body = {"url": far_end.url, "events": EVENTS, "scope": "organization", "organization": ORGANIZATION}
        headers = {"Authorization": f"Bearer {sandbox.api_key}"}
        http.post(f"{sandbox.gateway_url}/webhook_subscriptions", json=body, headers=headers).raise_for_status()
        far_end.open.clear()
        sandbox.burst(30)
        until(lambda: len(far_end.received) >= 20)
        began = time.monotonic()
    assert time.monotonic() - began < ATTEMPT_SECONDS / 2
    assert len(far_end.received) == 20


ORGANIZATION = "https://api.calendly.com/organizations/BBBBBBBBBBBBBBBB"


# Gone wrong on demand


def test_duplicates_are_the_same_body_twice(api, far_end, subscribe):
    subscribe()
    api.sandbox.set_deliveries(duplicate=2)
    book(api.sandbox, "a", "b", "c")
    found = api.sandbox.wait_for_deliveries()
    assert Counter(addresses(far_end)) == {"a@example.com": 2, "b@example.com": 2, "c@example.com": 1}
    assert len({raw for _, raw in far_end.received}) == 3
    assert [item["repeats"] for item in found["deliveries"]] == [None, 1, None, 3, None]
    assert found["delivered"] == 5


def test_a_move_can_arrive_the_wrong_way_round(api, far_end, subscribe):
    uuid = uuid_of(book(api.sandbox))
    subscribe()
    api.sandbox.set_deliveries(reorder=1)
    api.sandbox.reschedule_event(uuid)
    api.sandbox.wait_for_deliveries()
    assert names(far_end) == ["invitee.created", "invitee.canceled"]


def test_shares_hit_about_as_many_as_asked(api, far_end, subscribe):
    subscribe()
    api.sandbox.set_deliveries(duplicate=0.1, reorder=0.1)
    uris = api.sandbox.burst(150, domains=["blocked.example", "example.com"])
    found = api.sandbox.wait_for_deliveries(timeout=60)
    seen = [body["payload"]["uri"] for body in bodies(far_end)]
    assert set(seen) == set(uris)
    assert 5 <= len(seen) - len(uris) <= 30
    first_seen = list(dict.fromkeys(seen))
    assert first_seen != uris
    assert 5 <= sum(later < earlier for earlier, later in pairs(first_seen, uris)) <= 30
    settings = found["settings"]
    assert (settings["duplicate"], settings["reorder"], settings["drop"], settings["stale"]) == (0.1, 0.1, 0, 0)
    domains = Counter(address.partition("@")[2] for address in set(addresses(far_end)))
    assert domains == {"blocked.example": 75, "example.com": 75}


def pairs(seen, uris):
    places = {uri: place for place, uri in enumerate(uris)}
    order = [places[uri] for uri in seen]
    return pairwise(order)


def test_a_delay_is_one_of_the_sandboxs_clock(api, far_end, subscribe):
    subscribe()
    api.sandbox.set_clock(frozen=True)
    api.sandbox.set_deliveries(delay_seconds=3600)
    book(api.sandbox, "late")
    api.sandbox.set_deliveries(delay_seconds=0)
    book(api.sandbox, "prompt")
    settled(api, 1)
    assert addresses(far_end) == ["prompt@example.com"]
    api.sandbox.set_clock(advance_seconds=3600)
    api.sandbox.wait_for_deliveries()
    assert addresses(far_end) == ["prompt@example.com", "late@example.com"]


def test_spoilt_signatures_are_well_formed_and_wrong_and_the_next_attempt_is_right(api, far_end, subscribe):
    subscribe()
    far_end.statuses = [401]
    api.sandbox.set_deliveries(bad_signature=1)
    book(api.sandbox)
    settled(api, 1)
    with pytest.raises(AssertionError):
        verified(*far_end.received[0])
    api.sandbox.set_clock(advance_seconds=30)
    found = api.sandbox.wait_for_deliveries()
    assert found["by_status"] == {"401": 1, "200": 1}
    assert verified(*far_end.received[1]) < 60


def test_a_stale_timestamp_is_signed_rightly(api, far_end, subscribe):
    subscribe()
    api.sandbox.set_deliveries(stale=1)
    book(api.sandbox)
    api.sandbox.wait_for_deliveries()
    assert 590 < verified(*far_end.received[0]) < 700


def test_a_replay_is_byte_for_byte_what_was_sent(api, far_end, subscribe):
    hook = subscribe()
    book(api.sandbox, "a")
    book(api.sandbox, "b")
    first = api.sandbox.wait_for_deliveries()["deliveries"][0]["id"]
    api.sandbox.set_clock(advance_seconds=3600)
    far_end.statuses = [401]
    api.sandbox.set_deliveries(replay=str(first))
    found = api.sandbox.wait_for_deliveries()
    sent = next(pair for pair in far_end.received if b"a@example.com" in pair[1])
    assert far_end.received[2] == sent
    assert (found["delivered"], found["replayed"], found["failed_attempts"]) == (2, 1, 0)
    assert api.resource(hook)["retry_started_at"] is None
    api.sandbox.set_deliveries(replay=2)
    assert api.sandbox.wait_for_deliveries()["replayed"] == 3


def test_dropped_deliveries_are_lost_and_paused_ones_come_later(api, far_end, subscribe):
    subscribe()
    api.sandbox.set_deliveries(drop=1, paused=True)
    book(api.sandbox, "lost")
    book(api.sandbox, "kept")
    found = api.sandbox.deliveries()
    assert [(item["state"], item["last_status"]) for item in found["deliveries"]] == [
        ("dropped", None),
        ("pending", None),
    ]
    api.sandbox.set_deliveries(paused=False)
    found = api.sandbox.wait_for_deliveries()
    assert addresses(far_end) == ["kept@example.com"]
    assert found["by_event"] == {"invitee.created": {"dropped": 1, "delivered": 1}}


def test_what_is_over_is_kept_within_bounds(api, far_end, subscribe):
    subscribe()
    api.sandbox.set_deliveries(drop=MAX_FINISHED + 50)
    api.sandbox.burst(MAX_FINISHED + 50)
    found = api.sandbox.deliveries(limit=1000)
    assert (found["dropped"], len(found["deliveries"])) == (MAX_FINISHED + 50, MAX_FINISHED)
    assert found["deliveries"][-1]["id"] == MAX_FINISHED + 50
    assert len(api.sandbox.deliveries()["deliveries"]) == 100
    with pytest.raises(ValueError, match="limit must be at most 1000"):
        api.sandbox.deliveries(limit=1001)


def test_half_a_character_breaks_no_delivery(api, far_end, subscribe):
    subscribe()
    api.sandbox.add_event(APRIL, invitees=[{"email": "a@example.com", "name": "half \ud83d"}])
    api.sandbox.wait_for_deliveries()
    assert bodies(far_end)[0]["payload"]["name"] == "half ?"
