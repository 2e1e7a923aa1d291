"""The control surface: counting, resetting, arranging situations; and the world it begins with."""

from __future__ import annotations

import socket
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest

from prefect_calendly.sandbox import Sandbox
from prefect_calendly.sandbox.options import Options
from prefect_calendly.sandbox.seed import ALICE, build
from prefect_calendly.sandbox.seed.generated import BLOCKED_GUEST_SHARE, CANCELED_SHARE
from prefect_calendly.sandbox.seed.seeder import BLOCKED_SHARES, IDN_SPELLINGS
from prefect_calendly.sandbox.slots import openings_of
from prefect_calendly.sandbox.world import World
from tests.sandbox.conftest import until

NOW = "2025-03-14T00:00:00Z"


def test_stats_count_what_was_asked(api):
    api.get("/users/me")
    api.get("/users/me")
    api.get(f"{api.event}/invitees")
    api.get(f"{api.event}/invitees/EEEEEEEEEEEEEEEE")
    api.get("/nothing")
    api.request("GET", "/connections", base=api.sandbox.connections_url)
    api.request("GET", "/users/me", base=api.sandbox.native_url, key=api.sandbox.native_token)
    stats = api.sandbox.stats()
    assert stats["requests"] == 7
    assert stats["by_route"] == {
        "GET /users/me": 3,
        "GET /scheduled_events/{uuid}/invitees": 1,
        "GET /scheduled_events/{event_uuid}/invitees/{invitee_uuid}": 1,
        "GET unknown": 1,
        "GET /connections": 1,
    }
    assert stats["by_status"] == {"200": 6, "404": 1}
    api.sandbox.reset_stats()
    assert api.sandbox.stats()["requests"] == 0
    assert api.resource(api.event)["status"] == "active"


def test_unknown_parameters_are_ignored_in_the_answer_and_noted(api):
    asked = api.get("/event_types", user=api.alice, pagesize=3, Active="true")
    assert asked.json() == api.get("/event_types", user=api.alice).json()
    api.post("/invitees", {"invitee": {"email": "x@example.com", "mail": "y"}, "eventType": "z"})
    api.post("/webhook_subscriptions", {"callback_url": "https://example.com"})
    assert sorted(api.sandbox.stats()["unknown_parameters"]) == [
        "GET /event_types: Active",
        "GET /event_types: pagesize",
        "POST /invitees: eventType",
        "POST /invitees: invitee.mail",
        "POST /webhook_subscriptions: callback_url",
    ]


def test_the_highest_number_in_flight(api):
    api.sandbox.fault("latency", seconds=60, times=None)
    url, key = urlsplit(api.sandbox.url), api.sandbox.api_key
    head = f"GET /calendly/users/me HTTP/1.1\r\nHost: {url.netloc}\r\nAuthorization: Bearer {key}\r\n\r\n"
    with ExitStack() as clients:
        for _ in range(5):
            clients.enter_context(socket.create_connection((url.hostname, url.port))).sendall(head.encode())
        until(lambda: api.sandbox.stats()["max_in_flight"] == 5)


def test_the_time_from_the_first_request_to_the_last_answer(api):
    api.sandbox.reset_stats()
    stats = api.sandbox.stats()
    assert (stats["since"], stats["seconds"]) == (None, 0)
    api.sandbox.fault("latency", seconds=0.03, times=None)
    before = time.time()
    api.get("/users/me")
    after = time.time()
    api.get("/users/me")
    stats = api.sandbox.stats()
    assert before <= stats["since"] <= after
    assert stats["seconds"] >= 0.06


def test_reset_goes_back_to_the_seeded_world(api):
    before = api.sandbox.state(full=True)
    uri = api.sandbox.add_event("2025-04-01T14:00:00Z")
    api.post(f"{uri}/cancellation", {})
    api.request("DELETE", "/webhook_subscriptions/GGGGGGGGGGGGGGGG")
    assert api.sandbox.state(full=True) != before
    api.sandbox.reset()
    after = api.sandbox.state(full=True)
    assert {**after, "now": None} == {**before, "now": None}
    assert api.sandbox.stats()["requests"] == 0


def test_reset_takes_other_options_until_the_next_one(api):
    assert api.sandbox.reset(events=10, hosts=1)["users"] == 4
    assert api.sandbox.reset(events=0)["scheduled_events"] == len(api.sandbox.state(full=True)["events"])
    assert api.sandbox.reset(now="2030-01-01T00:00:00Z", seed=2)["scheduled_events"] > 100
    assert api.sandbox.clock().year == 2030
    # All lie ahead but those of Calendly's documentation and of the show-case.
    assert ahead(api, events=200, upcoming=True) > 200 - 20 > ahead(api, events=200)
    api.sandbox.reset()
    assert api.sandbox.clock().year == 2025
    with pytest.raises(ValueError, match="plan"):
        api.sandbox.reset(plan="gold")
    with pytest.raises(ValueError, match="color"):
        api.sandbox.reset(color="red")


def ahead(api, **options):
    """How many events lie ahead in the world of these options."""
    api.sandbox.reset(**options)
    now = api.sandbox.clock().isoformat()
    query = {"organization": api.organization, "min_start_time": now, "count": 100}
    first = api.get("/scheduled_events", **query).json()
    second = api.get("/scheduled_events", **query, page_token=first["pagination"]["next_page_token"]).json()
    return len(first["collection"]) + len(second["collection"])


def test_the_clock_runs_stops_and_jumps(api):
    first, second = api.sandbox.clock(), api.sandbox.clock()
    assert first < second < first + timedelta(minutes=1)
    frozen = api.sandbox.set_clock(frozen=True)
    assert api.sandbox.clock() == frozen
    assert api.sandbox.set_clock(advance_seconds=90) == frozen + timedelta(seconds=90)
    assert api.sandbox.set_clock("2025-06-01T12:00:00+02:00") == datetime(2025, 6, 1, 10, tzinfo=UTC)
    api.sandbox.set_clock(frozen=False)
    assert api.sandbox.clock() > datetime(2025, 6, 1, 10, tzinfo=UTC)
    api.sandbox.set_clock(speed=1_000_000)
    until(lambda: api.sandbox.clock() > datetime(2025, 6, 1, 12, tzinfo=UTC))
    assert api.sandbox.control("GET", "/clock")["speed"] == 1_000_000
    api.sandbox.reset(clock_speed=60)
    assert api.sandbox.control("GET", "/clock")["speed"] == 60


def test_an_event_can_be_arranged_in_detail(api):
    user = api.sandbox.add_user("Una Host", email="una@acme.example", timezone="Asia/Kolkata", role="admin")
    assert api.resource(user["uri"])["timezone"] == "Asia/Kolkata"
    assert api.resource(user["organization_membership"])["role"] == "admin"
    assert api.resource(user["availability_schedule"])["user"] == user["uri"]
    event_type = api.sandbox.add_event_type("Long Talk", hosts=["una@acme.example"], duration=90)
    made = api.sandbox.control(
        "POST",
        "/events",
        {
            "start_time": "2025-04-01T14:00:00Z",
            "host": "una@acme.example",
            "event_type": event_type,
            "name": "A talk",
            "status": "canceled",
            "cancellation_reason": "ill",
            "invitees": [{"email": "a@blocked.example", "name": "A", "timezone": "Asia/Tokyo"}],
            "guests": ["g@example.com"],
            "location": {"kind": "physical", "location": "Here"},
            "created_at": "2025-03-01T00:00:00Z",
            "uuid": "MYEVENT000000000",
        },
    )
    event = api.resource("/scheduled_events/MYEVENT000000000")
    assert made == {"uri": event["uri"], "invitees": [i["uri"] for i in api.everything(f"{made['uri']}/invitees")]}
    assert (event["name"], event["status"], event["end_time"]) == (
        "A talk",
        "canceled",
        "2025-04-01T15:30:00.000000Z",
    )
    assert event["cancellation"]["reason"] == "ill"
    assert event["location"] == {"type": "physical", "location": "Here"}
    assert [guest["email"] for guest in event["event_guests"]] == ["g@example.com"]
    invitee = api.resource(made["invitees"][0])
    assert (invitee["timezone"], invitee["status"]) == ("Asia/Tokyo", "canceled")


def test_a_booking_without_a_time_takes_a_free_slot_and_never_one_twice(api):
    uris = [api.sandbox.add_event() for _ in range(20)]
    moved = api.sandbox.reschedule_event(uris.pop().rpartition("/")[2])
    starts = sorted(api.resource(uri)["start_time"] for uri in [*uris, moved])
    assert len(set(starts)) == 20
    assert starts[0] >= "2025-03-15"
    others = api.everything("/scheduled_events", user=api.alice, status="active", min_start_time=starts[0])
    assert sum(item["start_time"] in starts for item in others) == 20
    workshop = next(i["uri"] for i in api.everything("/event_types", user=api.alice) if i["name"] == "Workshop")
    group = [api.resource(api.sandbox.add_event(event_type=workshop))["start_time"] for _ in range(3)]
    assert not set(group) & {item["start_time"] for item in others}
    assert len(set(group)) == 3
    api.sandbox.add_busy_time("2025-03-14T00:00:00Z", "2027-01-01T00:00:00Z")
    with pytest.raises(ValueError, match="no free slot; give a start_time"):
        api.sandbox.add_event()


def test_a_booking_is_made_now_unless_it_lies_in_the_past(api):
    now = api.sandbox.set_clock(frozen=True)
    for hours, made in ((2, now), (-2, now - timedelta(hours=26))):
        event = api.resource(api.sandbox.add_event(now + timedelta(hours=hours)))
        assert datetime.fromisoformat(event["created_at"]) == made


def test_one_invitee_of_a_group_leaves_and_the_last_one_ends_it(api):
    now = api.sandbox.set_clock(frozen=True)
    people = [{"email": "a@example.com"}, {"email": "b@example.com"}]
    uuid = api.sandbox.add_event("2025-04-01T14:00:00Z", invitees=people).rpartition("/")[2]
    later = api.sandbox.set_clock(advance_seconds=60)
    assert api.sandbox.cancel_event(uuid, invitee="a@example.com", reason="ill")["status"] == "active"
    event, (a, b) = api.resource(f"/scheduled_events/{uuid}"), api.everything(f"/scheduled_events/{uuid}/invitees")
    assert (a["status"], a["cancellation"]["reason"], a["cancellation"]["canceler_type"]) == (
        *("canceled", "ill"),
        "invitee",
    )
    assert (b["status"], event["status"], event["invitees_counter"]["active"]) == ("active", "active", 1)
    assert [datetime.fromisoformat(item["updated_at"]) for item in (a, event)] == [later, later]
    assert datetime.fromisoformat(b["updated_at"]) < now + timedelta(seconds=1)
    with pytest.raises(ValueError, match=r"no invitee 'a@example\.com'"):
        api.sandbox.cancel_event(uuid, invitee="a@example.com")
    assert api.sandbox.cancel_event(uuid, invitee="b@example.com")["status"] == "canceled"
    with pytest.raises(ValueError, match="the event is canceled"):
        api.sandbox.cancel_event(uuid)
    assert api.sandbox.state()["canceled_by_api"] == []


def test_a_host_cancels_for_everybody(api):
    uri = api.sandbox.add_event("2025-04-01T14:00:00Z")
    api.sandbox.cancel_event(uri.rpartition("/")[2], by="host", reason="ill")
    assert api.resource(uri)["cancellation"]["canceler_type"] == "host"


def test_an_invitee_moves_an_event_once(api):
    old = api.sandbox.add_event("2025-04-01T14:00:00Z", invitees=[{"email": "rita@example.com"}])
    api.sandbox.set_clock(frozen=True)
    new = api.sandbox.reschedule_event(old.rpartition("/")[2], "2025-04-02T15:00:00Z")
    assert api.resource(new)["start_time"] == "2025-04-02T15:00:00.000000Z"
    assert api.resource(new)["status"] == "active"
    assert api.resource(old)["status"] == "canceled"
    assert api.resource(old)["cancellation"]["canceler_type"] == "invitee"
    (before,), (after,) = api.everything(f"{old}/invitees"), api.everything(f"{new}/invitees")
    assert (before["new_invitee"], before["rescheduled"], before["status"]) == (after["uri"], True, "canceled")
    assert (after["old_invitee"], after["rescheduled"], after["status"]) == (before["uri"], False, "active")
    assert api.resource(old)["updated_at"] == api.resource(new)["updated_at"] == after["created_at"]
    assert before["updated_at"] == after["updated_at"] == after["created_at"]
    with pytest.raises(ValueError, match="canceled"):
        api.sandbox.reschedule_event(old.rpartition("/")[2], "2025-04-03T15:00:00Z")


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/events", {"start_time": 5}, "a time must be an ISO 8601 string"),
        ("/events", {"starts": "2025-04-01T14:00:00Z"}, "starts"),
        ("/events", {"start_time": "2025-04-01T14:00:00Z", "host": "nobody"}, "nobody"),
        ("/events", {"start_time": "soon"}, "soon"),
        ("/events", {"start_time": "2025-04-01T14:00:00Z", "guest": []}, "guest"),
        ("/users", {}, "name"),
        ("/busy_times", {"start_time": "2025-04-01T14:00:00Z"}, "end_time"),
        ("/clock", {"pace": 2}, "pace"),
        ("/clock", {"speed": 0}, "speed must be a number above 0"),
        ("/clock", {"speed": "fast"}, "speed must be a number above 0"),
        ("/clock", {"advance_seconds": 1e30}, "too large|days"),
        ("/connections/none", {"status": "ACTIVE"}, "none"),
        ("/events", [], "object"),
        ("/events/none/reschedule", {"start_time": "2025-04-01T14:00:00Z"}, "none"),
        ("/events/DDDDDDDDDDDDDDDD/reschedule", {"start": "2025-04-01T14:00:00Z"}, "start"),
        ("/events/none/cancel", {}, "no scheduled event 'none'"),
        ("/events/DDDDDDDDDDDDDDDD/cancel", {"invitee": "nobody@example.com"}, "no invitee 'nobody@example.com'"),
        ("/events/DDDDDDDDDDDDDDDD/cancel", {"by": "chance"}, "by must be invitee or host"),
        ("/events/DDDDDDDDDDDDDDDD/cancel", {"by": "host", "invitee": "bob.smith@example.com"}, "for all invitees"),
        ("/events/DDDDDDDDDDDDDDDD/cancel", {"reason": 5}, "reason must be a string"),
        ("/events/DDDDDDDDDDDDDDDD/no_show", {"undo": True}, "no invitee is marked"),
        ("/burst", {}, "count"),
        ("/burst", {"count": 0}, "count must be an integer"),
        ("/burst", {"count": 1, "domains": "blocked.example"}, "domains must be a list"),
        ("/burst", {"count": 1, "hosts": ["nobody"]}, "nobody"),
        ("/deliveries", {"paused": 1}, "paused must be true or false"),
        ("/deliveries", {"at_once": 0}, "at_once must be an integer"),
        ("/deliveries", {"delay_seconds": -1}, "must not be negative"),
        ("/deliveries", {"duplicate": 1.5}, "duplicate must be an integer"),
        ("/deliveries", {"drop": -1}, "drop must be an integer"),
        ("/deliveries", {"stale": True}, "stale must be an integer"),
        ("/deliveries", {"replay": 1}, "nothing to replay"),
        ("/deliveries", {"replay": 0}, "replay must be an integer"),
        ("/deliveries", {"jitter": 1}, "jitter"),
    ],
)
def test_a_mistake_in_a_control_call_is_explained(api, path, body, words):
    with pytest.raises(ValueError, match=words):
        api.sandbox.control("POST", path, body)


def test_control_calls_are_thread_safe(api):
    hours = [f"2025-05-01T{hour:02}:00:00Z" for hour in range(20)]
    with ThreadPoolExecutor(8) as pool:
        uris = list(pool.map(api.sandbox.add_event, hours))
    found = api.everything(
        "/scheduled_events",
        user=api.alice,
        min_start_time="2025-05-01T00:00:00Z",
        max_start_time="2025-05-02T00:00:00Z",
    )
    assert set(uris) <= {item["uri"] for item in found}


# The server in the process


def test_a_sandbox_leaves_nothing_behind(http):
    before = set(threading.enumerate())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Sandbox(events=5, latency_ms=1) as sandbox:
            assert set(threading.enumerate()) - before
            headers = {"Authorization": f"Bearer {sandbox.api_key}"}
            assert http.get(f"{sandbox.gateway_url}/users/me", headers=headers).status_code == 200
            with pytest.raises(RuntimeError, match="already"):
                sandbox.start()
        sandbox.stop()  # a second stop does no harm
    assert not set(threading.enumerate()) - before  # those of other tests may end meanwhile


def test_stopping_does_not_wait_for_slow_answers(http):
    with Sandbox(events=0) as sandbox, ThreadPoolExecutor(1) as pool:
        sandbox.fault("latency", seconds=3600)
        headers = {"Authorization": f"Bearer {sandbox.api_key}"}
        slow = pool.submit(http.get, f"{sandbox.gateway_url}/users/me", headers=headers, timeout=30)
        until(lambda: sandbox.stats()["requests"])
        sandbox.stop()
        assert slow.result().status_code == 200


def test_two_sandboxes_are_two_worlds(http):
    with Sandbox(events=1) as one, Sandbox(events=1) as two:
        one.set_clock("2030-01-01T00:00:00Z")
        assert one.url != two.url
        assert two.clock().year != 2030


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"plan": "gold"}, "plan"),
        ({"hosts": 0}, "hosts"),
        ({"events": -1}, "events"),
        ({"events": 10, "invitees": 5}, "invitees"),
        ({"events": 0, "invitees": 5}, "invitees"),
        ({"clock_speed": -1}, "speed"),
        ({"clock_speed": float("nan")}, "speed"),
    ],
)
def test_options_that_make_no_sense(options, words):
    with pytest.raises(ValueError, match=words):
        Sandbox(**options)


# The world


def generated(world: World, baseline: World):
    """The generated events: those that a world with none of them does not have more of."""
    extra = len(world.events) - len(baseline.events)
    return [event for event in list(world.events.values())[-extra - 9 :] if event.source == "seed"]


def of_the_organization(world: World):
    organization = world.users[ALICE].organization
    return [event for event in world.events.values() if event.hosts[0].organization is organization]


@pytest.fixture(scope="module")
def worlds():
    """One with 1,000 generated events and 1,800 invitees of theirs, one with none."""
    options = {"now": NOW, "hosts": 4}
    baseline = build(Options(events=0, **options))
    events = of_the_organization(baseline)
    invitees = 1800 + sum(len(event.invitees) for event in events)
    return build(Options(events=1000 + len(events), invitees=invitees, **options)), baseline


def test_the_same_seed_makes_the_same_world():
    def fingerprint(seed):
        world = build(Options(events=50, seed=seed, now=NOW))
        return [(e.uuid, e.start, [i.email for i in e.invitees]) for e in world.events.values()]

    assert fingerprint(7) == fingerprint(7) != fingerprint(8)


def test_there_are_as_many_events_and_invitees_as_asked(worlds):
    world, _ = worlds
    asked = world.options
    assert len(of_the_organization(world)) == asked.events
    assert sum(len(event.invitees) for event in of_the_organization(world)) == asked.invitees
    assert all(event.invitees for event in world.events.values())
    assert all(len(event.invitees) <= event.event_type.limit for event in world.events.values())


def test_shares_of_what_flows_look_for(worlds):
    world, baseline = worlds

    def count(predicate):
        return sum(map(predicate, world.invitees.values())) - sum(map(predicate, baseline.invitees.values()))

    for domain, share in BLOCKED_SHARES.items():
        spellings = IDN_SPELLINGS if domain == IDN_SPELLINGS[0] else (domain,)
        found = count(lambda invitee, spellings=spellings: invitee.email.partition("@")[2] in spellings)
        assert found == 1800 * share // 100
    guests = sum(len(e.guests) for e in world.events.values())
    assert guests - sum(len(e.guests) for e in baseline.events.values()) == 10 * BLOCKED_GUEST_SHARE
    canceled = sum(e.status == "canceled" for e in world.events.values())
    assert canceled - sum(e.status == "canceled" for e in baseline.events.values()) == 10 * CANCELED_SHARE
    mixed = [
        e
        for e in world.events.values()
        if {"blocked.example", "acme.example"} <= {i.email.partition("@")[2] for i in e.invitees}
    ]
    assert mixed
    domains = {i.email.partition("@")[2].lower() for i in world.invitees.values()}
    assert all(d == "example.com" or d.endswith((".example", ".test")) for d in domains)


def test_events_lie_on_free_slots_in_their_hosts_hours(worlds):
    world, _ = worlds
    now = world.clock.now()
    for host in world.users.values():
        events = [e for e in world.by_owner[host.uuid, None] if e.event_type.name != "Paid Consultation"]
        openings = openings_of(host.schedules[0], now - timedelta(days=40), now + timedelta(days=70))
        for event in events:
            if event.uuid != "DDDDDDDDDDDDDDDD" and host is event.hosts[0]:
                assert any(a <= event.start and event.start + timedelta(minutes=30) <= b for a, b in openings)
                assert now - timedelta(days=31) < event.start < now + timedelta(days=61)
        starts = [e.start for e in events]
        if host.uuid == "AAAAAAAAAAAAAAAA":
            assert len(starts) == len(set(starts))


def test_users_have_roles_and_time_zones(worlds):
    world, _ = worlds
    users = world.members(world.organizations["BBBBBBBBBBBBBBBB"])
    assert sorted(user.role for user in users) == ["admin", "owner", "user", "user", "user"]
    assert {user.timezone for user in users} == {
        *("America/New_York", "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe", "America/Sao_Paulo")
    }
