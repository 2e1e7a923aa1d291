"""Paging: keyset, opaque tokens, both directions, nothing twice and nothing lost."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prefect_calendly.sandbox import endpoints
from prefect_calendly.sandbox.options import Options
from prefect_calendly.sandbox.paging import page
from prefect_calendly.sandbox.routing import Call
from prefect_calendly.sandbox.seed import build

ORGANIZATION = "https://api.calendly.com/organizations/BBBBBBBBBBBBBBBB"
ALICE = "https://api.calendly.com/users/AAAAAAAAAAAAAAAA"
LISTINGS = [
    ("/scheduled_events", {"user": ALICE}),
    ("/scheduled_events", {"user": ALICE, "sort": "start_time:desc"}),
    ("/scheduled_events", {"organization": ORGANIZATION, "status": "canceled"}),
    ("/scheduled_events", {"organization": ORGANIZATION, "min_start_time": "2025-04-20T00:00:00Z"}),
    ("/scheduled_events", {"organization": ORGANIZATION, "invitee_email": "dora.good@globex.example"}),
    ("/scheduled_events", {"organization": ORGANIZATION, "group": f"{ORGANIZATION[:25]}groups/HHHHHHHHHHHHHHHH",
                           "status": "canceled"}),
    ("/event_types", {"organization": ORGANIZATION}),
    ("/event_types", {"organization": ORGANIZATION, "sort": "name:desc,created_at:asc"}),
    ("/event_types", {"user": ALICE, "sort": "position:desc"}),
    ("/organization_memberships", {"organization": ORGANIZATION}),
    ("/webhook_subscriptions", {"organization": ORGANIZATION, "scope": "organization"}),
]  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(listing=st.sampled_from(LISTINGS), count=st.integers(1, 100))
def test_walking_forwards_and_backwards_yields_each_item_once(api, listing, count):
    path, query = listing
    count = max(count, 3) if path == "/scheduled_events" else count  # a page of one, 300 times over, is slow
    expected = [item["uri"] for item in api.everything(path, **query)]
    assert len(expected) == len(set(expected)) > 0

    forwards, page = [], api.get(path, count=count, **query).json()
    assert page["pagination"]["previous_page_token"] is None
    while True:
        forwards.append([item["uri"] for item in page["collection"]])
        pagination = page["pagination"]
        assert pagination["count"] == len(page["collection"]) <= count
        if pagination["next_page_token"] is None:
            assert pagination["next_page"] is None
            break
        page = api.get(path, count=count, page_token=pagination["next_page_token"], **query).json()
    assert [uri for uris in forwards for uri in uris] == expected

    backwards = [forwards[-1]]
    while (token := page["pagination"]["previous_page_token"]) is not None:
        page = api.get(path, count=count, page_token=token, **query).json()
        backwards.insert(0, [item["uri"] for item in page["collection"]])
    assert [uri for uris in backwards for uri in uris] == expected


class CountedRows(Sequence):
    """A long listing that counts how many of its rows are read."""

    def __init__(self, length):
        self.length, self.read = length, 0

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        self.read += 1
        return index


@pytest.mark.parametrize("descending", [False, True])
def test_a_page_of_a_long_listing_costs_the_same_wherever_it_lies(descending):
    world, rows = build(Options(events=0)), CountedRows(20_000)
    route, _ = endpoints.calendly.find("GET", "scheduled_events")
    query, seen, costs = {"count": "100"}, [], []
    while len(seen) < len(rows):
        call = Call(world, world.users["AAAAAAAAAAAAAAAA"], route, {}, query)
        answer = page(call, rows, lambda row: [row], lambda row: row, descending=descending).body
        seen += answer["collection"]
        costs.append(rows.read)
        query, rows.read = {"page_token": answer["pagination"]["next_page_token"]}, 0
    assert seen == (list(range(20_000))[::-1] if descending else list(range(20_000)))
    assert max(costs) < 100 + 80


def test_next_page_is_the_same_question_to_calendly_itself(api):
    first = api.get("/scheduled_events", user=api.alice, count=2, status="active").json()["pagination"]
    assert first["next_page"].startswith("https://api.calendly.com/scheduled_events?")
    here = first["next_page"].replace("https://api.calendly.com", "")
    second = api.request("GET", here)
    assert second.status_code == 200
    by_token = api.get(
        "/scheduled_events", user=api.alice, count=2, status="active", page_token=first["next_page_token"]
    )
    assert second.json() == by_token.json()


def test_a_path_parameter_is_part_of_the_link(api):
    uri = api.sandbox.add_event("2025-04-01T14:00:00Z", invitees=[{"email": f"i{n}@example.com"} for n in range(3)])
    page = api.get(f"{uri}/invitees", count=2).json()["pagination"]
    assert page["next_page"].startswith(f"{uri}/invitees?")


def test_the_default_count_is_20(api):
    page = api.get("/scheduled_events", user=api.alice).json()
    assert page["pagination"]["count"] == len(page["collection"]) == 20


@pytest.mark.parametrize("count", ["0", "101", "-1", "ten", "", "1.5"])
def test_counts_outside_1_to_100_are_refused(api, details, count):
    assert details(api.get("/event_types", user=api.alice, count=count)) == [("count", "invalid")]


def test_an_event_inserted_or_canceled_between_pages_moves_nothing(api):
    query = {"user": api.alice, "status": "active", "count": 10}
    before = [item["uri"] for item in api.everything("/scheduled_events", user=api.alice, status="active")]
    page = api.get("/scheduled_events", **query).json()
    seen = [item["uri"] for item in page["collection"]]
    early = api.sandbox.add_event("2025-01-01T10:00:00Z")  # before the page we have
    late = api.sandbox.add_event("2025-12-01T10:00:00Z")  # behind it
    future = [
        item["uri"]
        for item in api.everything(
            "/scheduled_events", user=api.alice, status="active", min_start_time="2025-03-20T00:00:00Z"
        )
    ]
    gone = future[3]
    assert api.post(f"{gone}/cancellation").status_code == 201
    while (token := page["pagination"]["next_page_token"]) is not None:
        page = api.get("/scheduled_events", page_token=token, **query).json()
        seen += [item["uri"] for item in page["collection"]]
    assert early not in seen
    assert seen == [uri for uri in before if uri != gone] + [late]


def _token(api, **query):
    return api.get("/scheduled_events", **query).json()["pagination"]["next_page_token"]


def test_a_made_up_token_is_refused(api, details):
    for token in ("abc", "a b", "", "é", "A" * 60):
        answer = api.get("/scheduled_events", user=api.alice, page_token=token)
        assert details(answer) == [("page_token", "invalid")]


@pytest.mark.parametrize(
    "other",
    [
        {"count": 3},
        {"status": "active"},
        {"sort": "start_time:desc"},
        {"min_start_time": "2025-01-01T00:00:00Z"},
        {"organization": ORGANIZATION},
    ],
)
def test_a_token_is_bound_to_filters_sort_and_count(api, details, other):
    token = _token(api, user=api.alice, count=2)
    assert token is not None
    assert api.get("/scheduled_events", user=api.alice, count=2, page_token=token).status_code == 200
    answer = api.get("/scheduled_events", **{"user": api.alice, "count": 2, "page_token": token, **other})
    assert details(answer) == [("page_token", "invalid")]


def test_a_token_carries_its_count(api):
    token = _token(api, user=api.alice, count=2)
    page = api.get("/scheduled_events", user=api.alice, page_token=token).json()
    assert page["pagination"]["count"] == 2


def test_a_token_of_another_listing_or_an_altered_one_is_refused(api, details):
    token = _token(api, organization=api.organization, count=2)
    answer = api.get("/event_types", organization=api.organization, count=2, page_token=token)
    assert details(answer) == [("page_token", "invalid")]
    altered = token[:-1] + ("A" if token[-1] != "A" else "B")
    answer = api.get("/scheduled_events", organization=api.organization, count=2, page_token=altered)
    assert answer.status_code == 400


def test_a_token_of_another_world_is_foreign(api, details):
    token = _token(api, user=api.alice, count=2)
    api.sandbox.reset()
    answer = api.get("/scheduled_events", user=api.alice, count=2, page_token=token)
    assert details(answer) == [("page_token", "invalid")]


def test_a_token_expires_after_a_day(api, details):
    token = _token(api, user=api.alice, count=2)
    api.sandbox.set_clock(advance_seconds=86_000)
    assert api.get("/scheduled_events", user=api.alice, count=2, page_token=token).status_code == 200
    api.sandbox.set_clock(advance_seconds=1_000)
    answer = api.get("/scheduled_events", user=api.alice, count=2, page_token=token)
    assert details(answer) == [("page_token", "invalid")]
