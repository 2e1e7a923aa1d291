"""Booking and canceling: what is checked, what changes, what is answered."""

from __future__ import annotations

import pytest

SLOT = "2025-03-20T15:00:00Z"
PERSON = {"name": "Bob Smith", "email": "bob.smith@example.com", "timezone": "America/Los_Angeles"}
ZOOM = {"kind": "zoom_conference"}


@pytest.fixture
def book(api):
    """Books a slot of Alice's 30 minute meeting; members given replace the valid ones, None takes them out."""

    def request(connection=None, **changes):
        body = {"event_type": api.event_type, "start_time": SLOT, "invitee": PERSON, "location": ZOOM}
        body = {name: value for name, value in {**body, **changes}.items() if value is not None}
        return api.post("/invitees", body, connection=connection)

    return request


@pytest.fixture
def slots(api):
    def read(event_type, day="2025-03-20"):
        answer = api.get(
            "/event_type_available_times",
            event_type=event_type,
            start_time=f"{day}T00:00:00Z",
            end_time=f"{day}T23:59:59Z",
        )
        return {item["start_time"]: item["invitees_remaining"] for item in answer.json()["collection"]}

    return read


@pytest.fixture
def event_types(api):
    return {item["name"]: item["uri"] for item in api.everything("/event_types", user=api.alice)}


def test_a_booking_takes_the_slot_and_is_there_everywhere(api, book, slots, details):
    assert "2025-03-20T15:00:00.000000Z" in slots(api.event_type)
    guests = ["one@example.com", "two@example.com"]
    answer = book(event_guests=guests)
    assert answer.status_code == 201
    invitee = answer.json()["resource"]
    assert (invitee["email"], invitee["name"], invitee["status"]) == (PERSON["email"], "Bob Smith", "active")
    assert (invitee["scheduling_method"], invitee["invitee_scheduled_by"]) == ("api", api.alice)
    assert invitee == api.resource(invitee["uri"])
    event = api.resource(invitee["event"])
    assert (event["start_time"], event["end_time"]) == (
        "2025-03-20T15:00:00.000000Z",
        "2025-03-20T15:30:00.000000Z",
    )
    assert event["invitees_counter"] == {"total": 1, "active": 1, "limit": 1}
    assert [guest["email"] for guest in event["event_guests"]] == guests
    assert "2025-03-20T15:00:00.000000Z" not in slots(api.event_type)
    listed = api.everything("/scheduled_events", user=api.alice, invitee_email=PERSON["email"])
    assert event["uri"] in [item["uri"] for item in listed]
    busy = api.get("/user_busy_times", user=api.alice, start_time=SLOT, end_time="2025-03-20T16:00:00Z").json()[
        "collection"
    ]
    assert event["uri"] in [item.get("event", {}).get("uri") for item in busy]
    again = book()
    assert details(again) == [("event.start_time", "That start time has been filled")]
    assert again.json()["details"][0]["code"] == "already_filled"
    assert [item["uri"] for item in api.sandbox.state()["bookings"]] == [invitee["uri"]]


def test_a_conference_link_is_there_a_moment_after_the_booking(api, book):
    api.sandbox.set_clock(frozen=True)
    uri = book().json()["resource"]["event"]
    location = api.resource(uri)["location"]
    assert (location["type"], location["status"], location["join_url"]) == ("zoom", "processing", None)
    api.sandbox.set_clock(advance_seconds=5)
    location = api.resource(uri)["location"]
    assert location["status"] == "pushed"
    assert location["join_url"].startswith("https://zoom.us/j/")


def test_the_route_of_the_specification_books_the_same(api):
    answer = api.post(
        "/event_types/CCCCCCCCCCCCCCCC/invitees",
        {
            "start_time": SLOT,
            "email": "bob.smith@example.com",
            "name": "Bob Smith",
            "timezone": "America/Los_Angeles",
            "location": {"kind": "zoom"},
            "questions_and_answers": [{"question_uuid": "QQQQQQQQQQQQQQQ", "answer": "Project timeline review"}],
        },
    )
    assert answer.status_code == 201
    invitee = answer.json()["resource"]
    assert invitee["questions_and_answers"] == [
        {
            "question": "What would you like to discuss?",
            "answer": "Project timeline review",
            "position": 0,
        }
    ]
    assert api.resource(invitee["event"])["location"]["type"] == "zoom"
    assert api.sandbox.stats()["unknown_parameters"] == []


def test_the_route_of_the_specification_refuses_an_unknown_question(api, details):
    body = {"start_time": SLOT, **PERSON, "location": {"kind": "zoom"}}
    answers = [{"question_uuid": "NONE", "answer": "x"}]
    answer = api.post("/event_types/CCCCCCCCCCCCCCCC/invitees", {**body, "questions_and_answers": answers})
    assert details(answer) == [("questions_and_answers[0].question_uuid", "invalid")]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"event_type": None}, [("event_type", "is missing")]),
        ({"event_type": "CCCCCCCCCCCCCCCC"}, [("event_type", "invalid")]),
        ({"start_time": None}, [("start_time", "is missing")]),
        ({"start_time": "tomorrow"}, [("start_time", "invalid")]),
        ({"start_time": "2025-03-13T14:00:00Z"}, [("start_time", "start_time must be in the future")]),
        ({"invitee": None}, [("invitee", "is missing")]),
        (
            {"invitee": {}},
            [
                ("invitee.email", "is missing"),
                ("invitee.timezone", "is missing"),
                ("invitee.name", "is missing"),
            ],
        ),
        ({"invitee": {**PERSON, "email": "bob"}}, [("invitee.email", "invalid")]),
        ({"invitee": {**PERSON, "timezone": "Mars/Olympus"}}, [("invitee.timezone", "invalid")]),
        ({"location": None}, [("location", "is missing")]),
        ({"location": {}}, [("location.kind", "is missing")]),
        ({"event_guests": ["x@example.com"] * 11}, [("event_guests", "must have at most 10 items")]),
        ({"event_guests": ["ok@example.com", "bad"]}, [("event_guests[1]", "invalid")]),
        (
            {"tracking": dict.fromkeys(["utm_campaign", "utm_source", "utm_medium", "utm_content"])},
            [("tracking.utm_term", "is missing"), ("tracking.salesforce_uuid", "is missing")],
        ),
        (
            {"questions_and_answers": [{"question": "What would you like to discuss?"}]},
            [
                ("questions_and_answers[0].answer", "is missing"),
                ("questions_and_answers[0].position", "is missing"),
            ],
        ),
        (
            {"questions_and_answers": [{"question": "what would you like to discuss?", "answer": "x", "position": 0}]},
            [("questions_and_answers[0].question", "invalid")],
        ),
    ],
)
def test_a_bad_booking_is_refused_and_nothing_is_booked(api, book, details, changes, expected):
    assert details(book(**changes)) == expected
    assert api.sandbox.state()["bookings"] == []
    assert api.sandbox.stats()["writes"] == {}


def test_a_location_that_is_not_offered_is_refused(book):
    answer = book(location={"kind": "google_conference"})
    assert answer.status_code == 400
    assert answer.json() == {
        "title": "Invalid Argument",
        "message": "Specified location kind is not configured for this event type.",
        "details": [
            {
                "parameter": "event.location_configuration.location",
                "message": "invalid location choice",
                "code": "invalid_location_choice",
            }
        ],
    }
    assert book(location={"kind": "zoom"}).status_code == 400  # the events' word, not the requests'


def test_a_required_question_must_be_answered_by_its_exact_text(api, book, details, event_types, slots):
    intro = event_types["Intro Call"]
    start = next(iter(slots(intro)))
    call = {"event_type": intro, "start_time": start, "location": {"kind": "google_conference"}}
    assert details(book(**call)) == [("questions_and_answers[0].question", "is missing")]
    answers = [{"question": "Company name", "answer": "Acme", "position": 0}]
    answer = book(**call, questions_and_answers=answers)
    assert answer.status_code == 201
    assert answer.json()["resource"]["questions_and_answers"] == answers


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"kind": "physical", "location": "1 Main Street"}, {"type": "physical", "location": "1 Main Street"}),
        ({"kind": "ask_invitee", "location": "My office"}, {"type": "ask_invitee", "location": "My office"}),
        ({"kind": "custom", "location": "The usual place"}, {"type": "custom"}),
        ({"kind": "inbound_call"}, {"type": "inbound_call", "location": "+1 202-555-0101"}),
        ({"kind": "outbound_call", "location": "+49 30 1"}, {"type": "outbound_call", "location": "+49 30 1"}),
        ({"kind": "google_conference"}, {"type": "google_conference"}),
        ({"kind": "zoom_conference"}, {"type": "zoom"}),
        ({"kind": "gotomeeting_conference"}, {"type": "gotomeeting"}),
        ({"kind": "microsoft_teams_conference"}, {"type": "microsoft_teams_conference"}),
        ({"kind": "webex_conference"}, {"type": "webex_conference"}),
    ],
)
def test_each_location_kind_is_booked_and_translated(api, book, event_types, slots, given, expected):
    anywhere = event_types["Meet Anywhere"]
    answer = book(event_type=anywhere, start_time=next(iter(slots(anywhere))), location=given)
    assert answer.status_code == 201, answer.text
    location = api.resource(answer.json()["resource"]["event"])["location"]
    assert {name: location[name] for name in expected} == expected


@pytest.mark.parametrize("kind", ["physical", "ask_invitee", "custom", "outbound_call"])
def test_some_location_kinds_want_a_text(book, details, event_types, slots, kind):
    anywhere = event_types["Meet Anywhere"]
    answer = book(event_type=anywhere, start_time=next(iter(slots(anywhere))), location={"kind": kind})
    assert details(answer) == [("location.location", "is missing")]


def test_a_group_event_keeps_its_slot_until_it_is_full(api, book, details, slots):
    session = api.sandbox.add_event_type("Tiny Class", kind="group", limit=2)
    first = book(event_type=session).json()["resource"]
    assert slots(session)["2025-03-20T15:00:00.000000Z"] == 1
    second = book(event_type=session, invitee={**PERSON, "email": "two@example.com"}).json()["resource"]
    assert second["event"] == first["event"]
    event = api.resource(first["event"])
    assert event["invitees_counter"] == {"total": 2, "active": 2, "limit": 2}
    assert event["updated_at"] == second["updated_at"] > first["updated_at"]
    assert "2025-03-20T15:00:00.000000Z" not in slots(session)
    assert details(book(event_type=session))[0][0] == "event.start_time"
    assert "2025-03-20T15:00:00.000000Z" not in slots(api.event_type)  # Alice is busy for other types


def test_round_robin_finds_a_host_without_a_location(api, book, slots):
    hosts = [api.sandbox.add_user(f"Robin {n}")["uri"] for n in (1, 2)]
    demo = api.sandbox.add_event_type("Demo", hosts=hosts, pooling="round_robin", locations=[])
    assert book(event_type=demo).status_code == 400  # a location is left out for round robin
    given = [book(event_type=demo, location=None) for _ in range(3)]
    assert [answer.status_code for answer in given] == [201, 201, 400]
    events = [api.resource(answer.json()["resource"]["event"]) for answer in given[:2]]
    assert {event["event_memberships"][0]["user"] for event in events} == set(hosts)


def test_a_collective_event_takes_the_time_of_all_hosts(api, book, slots):
    users = [api.sandbox.add_user(f"Colin {n}") for n in (1, 2)]
    panel = api.sandbox.add_event_type("Panel", hosts=[u["uri"] for u in users], pooling="collective")
    event = api.resource(book(event_type=panel).json()["resource"]["event"])
    assert [m["user"] for m in event["event_memberships"]] == [u["uri"] for u in users]
    assert all("2025-03-20T15:00:00.000000Z" not in slots(u["event_type"]) for u in users)


def test_an_inactive_type_has_no_slots_and_takes_no_bookings(book, details, event_types, slots):
    old = event_types["Old Coffee Chat"]
    assert slots(old) == {}
    assert details(book(event_type=old)) == [("event_type", "invalid")]


def test_names_may_come_in_two_parts_and_tracking_is_kept(book):
    tracking = {
        "utm_campaign": "spring",
        **dict.fromkeys(["utm_source", "utm_medium", "utm_content", "utm_term", "salesforce_uuid"]),
    }
    person = {"first_name": "Bob", "last_name": "Smith", "email": "b@example.com", "timezone": "UTC"}
    invitee = book(invitee=person, tracking=tracking).json()["resource"]
    assert (invitee["name"], invitee["first_name"], invitee["last_name"]) == ("Bob Smith", "Bob", "Smith")
    assert invitee["tracking"] == tracking


def test_an_event_type_of_another_organization_cannot_be_booked(book, api, error):
    answer = book(connection=api.second_connection)
    assert error(answer) == (
        403,
        "Permission Denied",
        "You do not have permission to access this resource.",
    )


def test_the_free_plan_has_no_scheduling_api(api, book, error):
    api.sandbox.reset(plan="free")
    assert error(book()) == (
        403,
        "Permission Denied",
        "The Scheduling API is only available on paid Calendly plans. Upgrade your plan to access this feature.",
    )


# Canceling


def test_canceling_ends_the_event_for_all_its_invitees(api, error):
    people = [{"email": "a@example.com"}, {"email": "b@example.com"}, {"email": "c@example.com"}]
    people[2]["status"] = "canceled"
    uri = api.sandbox.add_event("2025-04-01T14:00:00Z", invitees=people)
    before = api.resource(uri)
    assert before["invitees_counter"] == {"total": 3, "active": 2, "limit": 1}
    answer = api.post(f"{uri}/cancellation", {"reason": "Meeting rescheduled"})
    assert answer.status_code == 201
    cancellation = answer.json()["resource"]
    assert (cancellation["canceled_by"], cancellation["reason"], cancellation["canceler_type"]) == (
        "Alice Johnson",
        "Meeting rescheduled",
        "host",
    )
    event = api.resource(uri)
    assert (event["status"], event["cancellation"]) == ("canceled", cancellation)
    assert event["invitees_counter"] == {"total": 3, "active": 0, "limit": 1}
    assert event["updated_at"] > before["updated_at"]
    invitees = api.everything(f"{uri}/invitees")
    assert [i["status"] for i in invitees] == ["canceled"] * 3
    assert [i["cancellation"]["canceler_type"] for i in invitees] == ["host", "host", "invitee"]
    assert error(api.post(f"{uri}/cancellation", {})) == (
        403,
        "Permission Denied",
        "Event is already canceled",
    )
    assert api.sandbox.stats()["writes"] == {"cancellation": 1}
    assert [e["uri"] for e in api.sandbox.state()["canceled_by_api"]] == [uri]
    active = api.everything("/scheduled_events", user=api.alice, status="active")
    assert uri not in [item["uri"] for item in active]


def test_canceling_gives_the_slot_back(api, book, slots):
    uri = book().json()["resource"]["event"]
    assert "2025-03-20T15:00:00.000000Z" not in slots(api.event_type)
    api.post(f"{uri}/cancellation", {})
    assert "2025-03-20T15:00:00.000000Z" in slots(api.event_type)


def test_an_event_in_the_past_cannot_be_canceled(api, error):
    uri = api.sandbox.add_event("2025-03-13T14:00:00Z")
    answer = api.post(f"{uri}/cancellation", {"reason": "late"})
    assert error(answer) == (403, "Permission Denied", "Event in the past")
    assert api.resource(uri)["status"] == "active"


@pytest.mark.parametrize("body", [None, {}, {"reason": None}])
def test_a_reason_is_optional(api, body):
    uri = api.sandbox.add_event("2025-04-01T14:00:00Z")
    answer = api.post(f"{uri}/cancellation", body)
    assert answer.status_code == 201
    assert answer.json()["resource"]["reason"] is None


@pytest.mark.parametrize("reason", ["x" * 10_001, 5, ["x"]])
def test_a_reason_is_a_text_of_at_most_10000_characters(api, details, reason):
    uri = api.sandbox.add_event("2025-04-01T14:00:00Z")
    assert details(api.post(f"{uri}/cancellation", {"reason": reason})) == [("reason", "invalid")]
    assert api.resource(uri)["status"] == "active"
    assert api.post(f"{uri}/cancellation", {"reason": "x" * 10_000}).status_code == 201


@pytest.mark.parametrize("content", [b"{", b"[]", b'"text"', b"\xff"])
@pytest.mark.parametrize("path", ["/invitees", "/webhook_subscriptions", "/scheduling_links"])
def test_a_body_that_is_no_object_is_refused(api, path, content):
    answer = api.request("POST", path, content=content)
    assert (answer.status_code, answer.json()["title"]) == (400, "Invalid Argument")
