"""Reading: filters, roles, and the text of every refusal."""

from __future__ import annotations

import pytest

ACCESS = "You do not have permission to access this resource."
ROLE = "You do not have permission"
STRANGER = "This user is not in your organization"
ORGANIZATION = "https://api.calendly.com/organizations/BBBBBBBBBBBBBBBB"
OTHER_ORGANIZATION = "https://api.calendly.com/organizations/SSSSSSSSSSSSSSSS"
ALICE = "https://api.calendly.com/users/AAAAAAAAAAAAAAAA"
ZOE = "https://api.calendly.com/users/ZZZZZZZZZZZZZZZZ"
GROUP = "https://api.calendly.com/groups/HHHHHHHHHHHHHHHH"
WINDOW = {"start_time": "2025-03-17T00:00:00Z", "end_time": "2025-03-18T00:00:00Z"}


def denied(message):
    return 403, "Permission Denied", message


@pytest.fixture
def colleague(api):
    """Another user of Alice's organization, and one of Zoe's: (same, zoes)."""
    same = api.sandbox.add_user("Colin League")["uri"]
    zoes = api.sandbox.add_user("Zack Other", organization="SSSSSSSSSSSSSSSS")["uri"]
    return same, zoes


@pytest.mark.parametrize(
    ("path", "query", "message"),
    [
        ("/users/ZZZZZZZZZZZZZZZZ", {}, ACCESS),
        ("/organizations/SSSSSSSSSSSSSSSS", {}, ACCESS),
        ("/event_types", {"organization": OTHER_ORGANIZATION}, ACCESS),
        ("/event_types", {"user": ZOE}, STRANGER),
        ("/scheduled_events", {"organization": OTHER_ORGANIZATION}, ACCESS),
        ("/scheduled_events", {"user": ZOE}, STRANGER),
        ("/scheduled_events", {"user": ZOE, "organization": ORGANIZATION}, STRANGER),
        (
            "/scheduled_events",
            {"group": GROUP},
            "Please also specify organization when requesting events for a group within your organization.",
        ),
        ("/user_busy_times", {"user": ZOE, **WINDOW}, STRANGER),
        ("/user_availability_schedules", {"user": ZOE}, STRANGER),
        ("/organization_memberships", {"organization": OTHER_ORGANIZATION}, ACCESS),
        ("/webhook_subscriptions", {"organization": OTHER_ORGANIZATION, "scope": "organization"}, ACCESS),
    ],
)
def test_what_belongs_to_others_is_refused(api, error, path, query, message):
    assert error(api.get(path, **query)) == denied(message)


def test_another_users_events_need_the_organization_too(api, error, colleague):
    same, _ = colleague
    host = same.rpartition("/")[2]
    event = api.sandbox.add_event("2025-04-01T14:00:00Z", host=host)
    assert error(api.get("/scheduled_events", user=same)) == denied(
        "Please also specify organization when requesting events for a user within your organization."
    )
    page = api.get("/scheduled_events", user=same, organization=api.organization).json()
    assert [item["uri"] for item in page["collection"]] == [event]


@pytest.mark.parametrize("path", ["/event_types", "/scheduled_events", "/organization_memberships"])
def test_a_plain_user_may_not_list_the_organization(api, error, path):
    answer = api.get(path, organization=OTHER_ORGANIZATION, connection=api.second_connection)
    assert error(answer) == denied(ROLE)
    own = api.get(path, user=ZOE, connection=api.second_connection)
    assert own.status_code == 200
    assert own.json()["collection"]


def test_a_plain_user_may_not_see_a_colleagues_events(api, error, colleague):
    _, other = colleague
    zoe = api.second_connection
    uri = api.sandbox.add_event("2025-04-01T14:00:00Z", host=other)
    answer = api.get("/scheduled_events", user=other, organization=OTHER_ORGANIZATION, connection=zoe)
    assert error(answer) == denied(ROLE)
    assert error(api.get(uri, connection=zoe)) == denied("You are not allowed to view this event")
    assert error(api.get(f"{uri}/invitees", connection=zoe)) == denied("You are not allowed to view this event")
    assert error(api.get(f"{api.event}/invitees/EEEEEEEEEEEEEEEE", connection=zoe)) == denied(
        "You do not have permission to view this event"
    )
    assert error(api.post(f"{uri}/cancellation", {}, connection=zoe)) == denied(
        "You are not allowed to cancel this event"
    )


@pytest.mark.parametrize(
    "path",
    [
        "/users/NOBODY",
        "/event_types/NOTHING",
        "/scheduled_events/NOTHING",
        "/scheduled_events/NOTHING/invitees",
        "/scheduled_events/DDDDDDDDDDDDDDDD/invitees/NOBODY",
        "/organizations/NOTHING",
        "/organization_memberships/NOTHING",
        "/user_availability_schedules/NOTHING",
        "/webhook_subscriptions/NOTHING",
        "/invitee_no_shows/NOTHING",
        "/no_such_endpoint",
        "/event_types/CCCCCCCCCCCCCCCC/invitees",
    ],
)
def test_what_does_not_exist_is_not_found(api, error, path):
    assert error(api.get(path)) == (
        404,
        "Resource Not Found",
        "The server could not find the requested resource.",
    )


def test_an_invitee_is_found_under_its_own_event_only(api):
    other = api.sandbox.add_event("2025-04-01T14:00:00Z")
    assert api.get(f"{other}/invitees/EEEEEEEEEEEEEEEE").status_code == 404


@pytest.mark.parametrize(
    ("path", "query", "expected"),
    [
        ("/event_types", {}, [("user", "is missing"), ("organization", "is missing")]),
        ("/event_types", {"user": "AAAAAAAAAAAAAAAA"}, [("user", "invalid")]),
        ("/event_types", {"user": ORGANIZATION}, [("user", "invalid")]),
        ("/event_types", {"user": ALICE, "active": "yes"}, [("active", "invalid")]),
        ("/event_types", {"user": ALICE, "sort": "duration:asc"}, [("sort", "invalid")]),
        ("/event_types", {"user": ALICE, "sort": "name"}, [("sort", "invalid")]),
        (
            "/scheduled_events",
            {},
            [("user", "is missing"), ("organization", "is missing"), ("group", "is missing")],
        ),
        ("/scheduled_events", {"user": ALICE, "status": "cancelled"}, [("status", "invalid")]),
        ("/scheduled_events", {"user": ALICE, "sort": "name:asc"}, [("sort", "invalid")]),
        ("/scheduled_events", {"user": ALICE, "invitee_email": "bob"}, [("invitee_email", "invalid")]),
        ("/scheduled_events", {"user": ALICE, "min_start_time": "2025-03-01"}, [("min_start_time", "invalid")]),
        (
            "/scheduled_events",
            {"user": ALICE, "max_start_time": "2025-02-30T00:00:00Z"},
            [("max_start_time", "invalid")],
        ),
        ("/scheduled_events/DDDDDDDDDDDDDDDD/invitees", {"status": "gone"}, [("status", "invalid")]),
        ("/event_type_available_times", WINDOW, [("event_type", "is missing")]),
        ("/event_type_available_times", {"event_type": "x", **WINDOW}, [("event_type", "invalid")]),
        ("/user_busy_times", WINDOW, [("user", "is missing")]),
        ("/user_busy_times", {"user": ALICE, "start_time": WINDOW["start_time"]}, [("end_time", "is missing")]),
        ("/user_availability_schedules", {}, [("user", "invalid")]),
        ("/user_availability_schedules", {"user": "alice"}, [("user", "invalid")]),
        ("/organization_memberships", {}, [("user", "is missing"), ("organization", "is missing")]),
        ("/organization_memberships", {"organization": ORGANIZATION, "role": "boss"}, [("role", "invalid")]),
        ("/webhook_subscriptions", {}, [("organization", "is missing"), ("scope", "is missing")]),
        ("/webhook_subscriptions", {"organization": ORGANIZATION}, [("scope", "is missing")]),
        ("/webhook_subscriptions", {"organization": ORGANIZATION, "scope": "user"}, [("user", "is missing")]),
        ("/webhook_subscriptions", {"organization": ORGANIZATION, "scope": "group"}, [("group", "is missing")]),
        ("/webhook_subscriptions", {"organization": ORGANIZATION, "scope": "team"}, [("scope", "invalid")]),
        ("/event_type_memberships", {}, [("event_type", "is missing")]),
        ("/locations", {}, [("user", "is missing")]),
    ],
)
def test_bad_parameters_are_named(api, details, path, query, expected):
    answer = api.get(path, **query)
    assert details(answer) == expected
    assert answer.json()["message"] == "The supplied parameters are invalid."


def test_event_filters_select(api):
    everything = api.everything("/scheduled_events", organization=api.organization)
    starts = [item["start_time"] for item in everything]
    assert starts == sorted(starts)
    low, high = starts[30], starts[90]
    window = api.everything("/scheduled_events", organization=api.organization, min_start_time=low, max_start_time=high)
    assert window == [item for item in everything if low <= item["start_time"] <= high]
    canceled = api.everything("/scheduled_events", organization=api.organization, status="canceled")
    assert canceled == [item for item in everything if item["status"] == "canceled"]
    assert all("cancellation" in item for item in canceled)
    down = api.everything("/scheduled_events", organization=api.organization, sort="start_time:desc")
    assert [item["start_time"] for item in down] == starts[::-1]
    alices = api.everything("/scheduled_events", user=api.alice)
    hosted = [e for e in everything if api.alice in [m["user"] for m in e["event_memberships"]]]
    assert alices == hosted


def test_events_by_invitee_email_whatever_its_case(api):
    uri = api.sandbox.add_event("2025-04-01T14:00:00Z", invitees=[{"email": "Zed.Zulu@example.com", "name": "Zed"}])
    found = api.everything("/scheduled_events", organization=api.organization, invitee_email="zed.zulu@EXAMPLE.com")
    assert [item["uri"] for item in found] == [uri]
    assert not api.everything("/scheduled_events", user=api.alice, invitee_email="zed@example.com")


def test_events_of_a_group_are_those_of_its_members(api):
    found = api.everything("/scheduled_events", organization=api.organization, group=api.group)
    outside = [e for e in api.everything("/scheduled_events", organization=api.organization) if e not in found]
    assert found
    assert outside
    hosts = {m["user"] for item in found for m in item["event_memberships"]}
    assert hosts.isdisjoint(m["user"] for item in outside for m in item["event_memberships"])


def test_invitees_by_status_email_and_order(api):
    people = [
        {"email": "a@example.com"},
        {"email": "b@example.com", "status": "canceled"},
        {"email": "c@example.com"},
    ]
    uri = api.sandbox.add_event("2025-04-01T14:00:00Z", invitees=people)

    def emails(**query):
        return [item["email"] for item in api.everything(f"{uri}/invitees", **query)]

    assert emails() == ["a@example.com", "b@example.com", "c@example.com"]
    assert emails(sort="created_at:desc") == ["c@example.com", "b@example.com", "a@example.com"]
    assert emails(status="canceled") == ["b@example.com"]
    assert emails(email="C@example.com") == ["c@example.com"]
    assert api.resource(uri)["invitees_counter"] == {"total": 3, "active": 2, "limit": 1}


def test_event_types_by_activity_schedule_and_order(api):
    items = api.everything("/event_types", user=api.alice)
    names = [item["name"] for item in items]
    assert names == sorted(names)
    inactive = api.everything("/event_types", user=api.alice, active="false")
    assert [item["name"] for item in inactive] == ["Old Coffee Chat"]
    schedules = api.get("/user_availability_schedules", user=api.alice).json()["collection"]
    evening = next(item for item in schedules if not item["default"])
    found = api.everything("/event_types", user=api.alice, user_availability_schedule=evening["uri"])
    assert [item["name"] for item in found] == ["Evening Call"]
    poolings = {(item["kind"], item["pooling_type"]) for item in items}
    assert poolings == {("solo", None), ("group", None), ("solo", "round_robin"), ("solo", "collective")}
    kinds = {location["kind"] for item in items for location in item["locations"] or ()}
    offered = api.get("/locations", user=api.alice).json()["collection"]
    assert kinds == {item["kind"] for item in offered}
    assert len(kinds) == 10
    assert any(question["required"] for item in items for question in item["custom_questions"])


def test_schedules_have_weekday_and_date_rules(api):
    answer = api.get("/user_availability_schedules", user=api.alice).json()
    assert answer.keys() == {"collection"}
    default = next(item for item in answer["collection"] if item["default"])
    assert api.resource(default["uri"].removeprefix(api.uri)) == default
    days = [rule for rule in default["rules"] if rule["type"] == "wday"]
    dates = [rule for rule in default["rules"] if rule["type"] == "date"]
    assert {rule["wday"] for rule in days} == {
        *("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
    }
    assert [rule["intervals"] for rule in dates] == [[], [{"from": "10:00", "to": "12:00"}]]


def test_memberships_by_role_and_email(api):
    everybody = api.everything("/organization_memberships", organization=api.organization)
    assert sorted(item["role"] for item in everybody) == ["admin", "owner", "user", "user"]
    assert len({item["user"]["timezone"] for item in everybody}) == 4
    admins = api.everything("/organization_memberships", organization=api.organization, role="admin")
    assert [item["user"]["uri"] for item in admins] == [api.alice]
    found = api.everything("/organization_memberships", organization=api.organization, email="Alice.Johnson@acme.com")
    assert found == admins


def test_event_type_memberships_name_the_hosts(api):
    demo = next(t for t in api.everything("/event_types", user=api.alice) if t["pooling_type"] == "round_robin")
    items = api.everything("/event_type_memberships", event_type=demo["uri"])
    assert len(items) == 3
    assert all(item["event_type"] == demo for item in items)
    assert api.alice in [item["member"]["uri"] for item in items]


def test_organization_and_group(api):
    item = api.resource("/organizations/BBBBBBBBBBBBBBBB")
    assert (item["uri"], item["plan"], item["stage"], item["kind"]) == (
        api.organization,
        "teams",
        "paid",
        "multiple",
    )
    groups = api.everything("/groups", organization=api.organization)
    assert [group["uri"] for group in groups] == [api.group]


def test_the_events_of_the_ten_location_kinds(api):
    events = api.everything("/scheduled_events", user=api.alice)
    locations = {item["location"]["type"]: item["location"] for item in events if item["location"]}
    assert locations.keys() == {
        *("physical", "ask_invitee", "custom", "inbound_call", "outbound_call", "google_conference", "zoom"),
        *("gotomeeting", "microsoft_teams_conference", "webex_conference"),
    }
    for kind, location in locations.items():
        if kind in ("physical", "ask_invitee", "custom", "inbound_call", "outbound_call"):
            assert location["location"]
        else:
            assert location["status"] == "pushed"
            assert location["join_url"].startswith("https://")


def test_the_show_case_has_every_situation(api):
    events = api.everything("/scheduled_events", user=api.alice)
    invitees = [i for e in events for i in api.get(f"{e['uri']}/invitees", count=100).json()["collection"]]
    assert any(item["payment"] and item["payment"]["successful"] for item in invitees)
    assert any(item["no_show"] for item in invitees)
    moved = next(item for item in invitees if item["rescheduled"])
    new = api.resource(moved["new_invitee"])
    assert moved["status"] == "canceled"
    assert (new["old_invitee"], new["rescheduled"], new["status"]) == (moved["uri"], False, "active")
    mixed = [e for e in events if e["invitees_counter"]["active"] > 1]
    assert mixed


# No-shows, links, samples


def test_a_no_show_is_marked_and_unmarked(api, error):
    past = api.sandbox.add_event("2025-03-10T14:00:00Z", invitees=[{"email": "late@example.com"}])
    (invitee,) = api.everything(f"{past}/invitees")
    made = api.post("/invitee_no_shows", {"invitee": invitee["uri"]})
    assert made.status_code == 201
    mark = made.json()["resource"]
    assert mark.keys() == {"uri", "invitee", "created_at"}
    assert api.resource(mark["uri"]) == mark
    assert api.resource(invitee["uri"])["no_show"] == {"uri": mark["uri"], "created_at": mark["created_at"]}
    again = api.post("/invitee_no_shows", {"invitee": invitee["uri"]})
    assert error(again) == (409, "Already Exists", "The resource already exists")
    assert api.request("DELETE", mark["uri"]).status_code == 204
    assert api.get(mark["uri"]).status_code == 404
    assert api.resource(invitee["uri"])["no_show"] is None


def test_a_no_show_moves_the_time_of_the_invitee_only(api):
    past = api.sandbox.add_event("2025-03-10T14:00:00Z", invitees=[{"email": "late@example.com"}])
    (before,), event = api.everything(f"{past}/invitees"), api.resource(past)
    mark = api.post("/invitee_no_shows", {"invitee": before["uri"]}).json()["resource"]
    marked = api.resource(before["uri"])
    assert marked["updated_at"] == mark["created_at"] > before["updated_at"]
    api.request("DELETE", mark["uri"])
    assert api.resource(before["uri"])["updated_at"] > marked["updated_at"]
    assert api.resource(past) == event


def test_a_no_show_needs_an_invitee_of_an_event_that_has_begun(api, details):
    future = api.sandbox.add_event("2025-04-01T14:00:00Z", invitees=[{"email": "x@example.com"}])
    (invitee,) = api.everything(f"{future}/invitees")
    answer = api.post("/invitee_no_shows", {"invitee": invitee["uri"]})
    assert details(answer) == [("invitee", "event has not started")]
    assert details(api.post("/invitee_no_shows", {})) == [("invitee", "is missing")]
    assert details(api.post("/invitee_no_shows", {"invitee": "bob"})) == [("invitee", "invalid")]


@pytest.mark.parametrize("count", [1, "1"])
def test_a_scheduling_link_is_for_one_booking(api, details, count):
    body = {"max_event_count": count, "owner": api.event_type, "owner_type": "EventType"}
    answer = api.post("/scheduling_links", body)
    assert answer.status_code == 201
    assert answer.json()["resource"]["owner"] == api.event_type
    again = api.post("/scheduling_links", body).json()["resource"]
    assert again["booking_url"] != answer.json()["resource"]["booking_url"]
    assert details(api.post("/scheduling_links", {**body, "max_event_count": 2})) == [("max_event_count", "invalid")]
    assert [name for name, _ in details(api.post("/scheduling_links", {}))] == list(body)


@pytest.mark.parametrize("name", ["invitee.created", "invitee.canceled", "invitee_no_show.created"])
def test_a_sample_delivery_is_made_of_real_events(api, name):
    answer = api.get("/sample_webhook_data", event=name, organization=api.organization, scope="organization")
    assert answer.status_code == 200
    sample = answer.json()
    assert sample.keys() == {"event", "created_at", "created_by", "payload"}
    assert (sample["event"], sample["created_by"]) == (name, api.alice)
    event = sample["payload"]["scheduled_event"]
    assert "calendar_event" not in event
    assert api.resource(sample["payload"]["uri"])["email"] == sample["payload"]["email"]
    assert ("cancellation" in sample["payload"]) == (name == "invitee.canceled")


def test_a_sample_of_an_unknown_event_is_refused(api, details):
    query = {"organization": api.organization, "scope": "organization"}
    assert details(api.get("/sample_webhook_data", **query)) == [("event", "is missing")]
    assert details(api.get("/sample_webhook_data", event="x.y", **query)) == [("event", "invalid")]
