"""The gateway: keys, connections, limits; and Calendly without it."""

from __future__ import annotations

import socket
import uuid
from urllib.parse import urlsplit

import pytest

from prefect_calendly.sandbox import Sandbox
from prefect_calendly.sandbox.errors import Refusal
from prefect_calendly.sandbox.limits import Limits
from prefect_calendly.sandbox.options import Options

UNAUTHENTICATED = {"title": "Unauthenticated", "message": "The access token is invalid"}


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer wrong", "Basic sandbox-key", "sandbox-key"])
@pytest.mark.parametrize("path", ["/calendly/users/me", "/calendly/nothing", "/connections"])
def test_a_bad_key_is_refused_first_of_all(sandbox, http, path, header):
    headers = {} if header is None else {"Authorization": header}
    answer = http.get(sandbox.url + path, headers=headers)
    assert answer.status_code == 401
    assert answer.json().keys() == {"error"}
    assert answer.json()["error"]["message"]


def test_every_answer_has_a_request_id_of_its_own(api, http):
    answers = [api.get("/users/me"), api.get("/nothing"), http.get(api.sandbox.url + "/nowhere")]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert len(set(ids)) == 3


@pytest.mark.parametrize("path", ["/users/me", "/", "/gmail/messages", "/connections/a/b"])
def test_a_path_outside_is_the_frameworks_not_found(api, path):
    answer = api.request("GET", path, base=api.sandbox.url)
    assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})


def test_without_a_header_the_oldest_active_connection_speaks(api):
    assert api.resource("/users/me")["uri"] == api.alice
    api.sandbox.set_connection(api.connection, status="FAILED")
    assert api.resource("/users/me")["uri"] == api.zoe


def test_the_header_chooses_the_account(api):
    user = api.get("/users/me", connection=api.second_connection).json()["resource"]
    assert (user["uri"], user["current_organization"]) == (
        api.zoe,
        f"{api.uri}/organizations/SSSSSSSSSSSSSSSS",
    )
    assert api.get("/users/me", connection=api.connection).json()["resource"]["uri"] == api.alice


@pytest.mark.parametrize("which", ["unknown", "pending", "foreign"])
def test_a_connection_that_cannot_be_used_is_a_gateway_error(api, which):
    wanted = {
        "unknown": str(uuid.uuid4()),
        "pending": api.pending_connection,
        "foreign": "3a8e6f52-7c19-4d0b-b2a4-1f5d9e8c7b44",
    }[which]
    answer = api.get("/users/me", connection=wanted)
    assert answer.status_code == 400
    assert answer.json().keys() == {"message"}
    assert wanted in answer.json()["message"]


def test_a_key_without_a_calendly_connection(api):
    answer = api.request("GET", "/users/me", key=api.sandbox.second_key)
    assert answer.status_code == 400
    assert answer.json().keys() == {"message"}


# Connections


@pytest.fixture
def connections(api):
    def request(method="GET", path="", *, key=None, **more):
        return api.request(method, f"/connections{path}", base=api.sandbox.connections_url, key=key, **more)

    return request


def test_connections_are_listed_by_app_status_and_limit(api, connections):
    def ids(key=None, **query):
        return [item["connection_id"] for item in connections(params=query, key=key).json()["connections"]]

    assert ids() == [api.connection, api.second_connection, api.pending_connection]
    assert ids(app="calendly", status="ACTIVE") == [api.connection, api.second_connection]
    assert ids(status="PENDING") == [api.pending_connection]
    assert ids(status="FAILED") == []
    assert ids(limit=1) == [api.connection]
    assert ids(method="OAUTH2") == ids()
    assert ids(method="API_KEY") == []
    assert ids(key=api.sandbox.second_key, app="calendly") == []
    assert len(ids(key=api.sandbox.second_key)) == 1


def test_a_connection_of_another_key_does_not_exist(api, connections):
    answer = connections(path=f"/{api.connection}", key=api.sandbox.second_key)
    assert (answer.status_code, answer.json().keys()) == (404, {"message"})
    assert connections("DELETE", f"/{api.connection}", key=api.sandbox.second_key).status_code == 404


def test_a_new_connection_turns_active_when_the_person_has_logged_in(api, connections):
    made = connections("POST", json={"app": "calendly"}, key=api.sandbox.second_key).json()["connection"]
    assert made["status"] == "PENDING"
    assert made["url"].startswith("https://connect.maton.ai/?session_token=")
    path = f"/{made['connection_id']}"
    states = [connections(path=path, key=api.sandbox.second_key).json()["connection"]["status"] for _ in range(3)]
    assert states == ["PENDING", "ACTIVE", "ACTIVE"]
    assert api.request("GET", "/users/me", key=api.sandbox.second_key).status_code == 200


def test_the_login_can_be_left_to_the_test(api, connections):
    api.sandbox.set_login(activate_after_gets=None)
    path = "/" + connections("POST", json={"app": "calendly"}).json()["connection"]["connection_id"]
    assert {connections(path=path).json()["connection"]["status"] for _ in range(5)} == {"PENDING"}
    api.sandbox.set_connection(path[1:], status="ACTIVE", user=api.zoe)
    assert api.get("/users/me", connection=path[1:]).json()["resource"]["uri"] == api.zoe
    api.sandbox.set_connection(path[1:], status="FAILED")
    assert connections(path=path).json()["connection"]["status"] == "FAILED"


def test_the_login_can_take_its_time(api, connections):
    api.sandbox.set_clock(frozen=True)
    api.sandbox.set_login(activate_after_gets=None, activate_after_seconds=10)
    path = "/" + connections("POST", json={"app": "calendly"}).json()["connection"]["connection_id"]
    assert connections(path=path).json()["connection"]["status"] == "PENDING"
    api.sandbox.set_clock(advance_seconds=10)
    assert connections(path=path).json()["connection"]["status"] == "ACTIVE"


def test_a_deleted_connection_is_gone(api, connections):
    answer = connections("DELETE", f"/{api.connection}")
    assert (answer.status_code, answer.json()) == (200, {})
    assert connections(path=f"/{api.connection}").status_code == 404
    assert api.resource("/users/me")["uri"] == api.zoe


@pytest.mark.parametrize(
    ("request_", "loc"),
    [
        ({"json": {}}, ["body", "app"]),
        ({"json": {"app": 5}}, ["body", "app"]),
        ({"json": {"app": "calendly", "method": "SMOKE"}}, ["body", "method"]),
        ({"content": b"{"}, ["body"]),
        ({}, ["body"]),
    ],
)
def test_a_bad_body_is_the_frameworks_422(connections, request_, loc):
    answer = connections("POST", **request_)
    assert answer.status_code == 422
    (problem,) = answer.json()["detail"]
    assert problem["loc"] == loc
    assert problem["msg"]


@pytest.mark.parametrize("query", [{"status": "DEAD"}, {"limit": "many"}, {"limit": 0}, {"method": "X"}])
def test_a_bad_query_is_the_frameworks_422(connections, query):
    answer = connections(params=query)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["query", next(iter(query))]


# Calendly itself


def test_native_calendly_knows_no_gateway(api):
    native = {"base": api.sandbox.native_url}
    assert api.request("GET", "/users/me", key="sandbox-key", **native).json() == UNAUTHENTICATED
    answer = api.request("GET", "/users/me", key=api.sandbox.native_token, **native)
    assert answer.json()["resource"]["uri"] == api.alice
    ignored = api.request("GET", "/users/me", key=api.sandbox.native_token, connection=api.second_connection, **native)
    assert ignored.json() == answer.json()
    unknown = api.request("GET", "/nothing", key=api.sandbox.native_token, **native)
    assert (unknown.status_code, unknown.json()["title"]) == (404, "Resource Not Found")


# Limits


@pytest.fixture(scope="module")
def limited():
    with Sandbox(events=0, hosts=1, now="2025-03-14T00:00:00Z") as sandbox:
        yield sandbox


@pytest.fixture
def get(limited, http):
    def request(path="/calendly/users/me", key=None):
        return http.get(limited.url + path, headers={"Authorization": f"Bearer {key or limited.api_key}"})

    return request


def test_the_gateway_refuses_more_than_its_rate(limited, get):
    limited.reset(gateway_rps=0.01)  # a bucket of one, filled again in 100 seconds
    assert get().status_code == 200
    answer = get()
    assert answer.status_code == 429
    assert answer.json().keys() == {"message"}
    assert "retry-after" not in answer.headers
    assert "x-ratelimit-limit" not in answer.headers
    assert get("/connections").status_code == 429  # one bucket for all that a key does
    assert get("/connections", key=limited.second_key).status_code == 200
    assert get(key="wrong").status_code == 401  # the key comes first
    assert get("/native/users/me", key=limited.native_token).status_code == 200


def test_calendly_counts_per_user_and_minute(limited, get):
    limited.reset(gateway_rps=0, rate_limit_per_minute=3)
    answers = [get(), get("/calendly/nothing"), get()]
    assert [answer.headers["x-ratelimit-remaining"] for answer in answers] == ["2", "1", "0"]
    assert {answer.headers["x-ratelimit-limit"] for answer in answers} == {"3"}
    over = get()
    assert (over.status_code, over.json()["title"]) == (429, "Too Many Requests")
    assert over.headers["x-ratelimit-remaining"] == "0"
    assert 1 <= int(over.headers["x-ratelimit-reset"]) <= 60
    assert get("/native/users/me", key=limited.native_token).status_code == 429  # the same user
    assert get("/connections").status_code == 200


@pytest.mark.parametrize(("plan", "limit"), [("free", "50"), ("teams", "500")])
def test_the_plan_sets_the_limit(limited, get, plan, limit):
    limited.reset(gateway_rps=0, plan=plan)
    assert get().headers["x-ratelimit-limit"] == limit


def test_the_limit_does_not_run_on_the_sandboxes_clock(limited, get):
    limited.reset(gateway_rps=0, rate_limit_per_minute=1)
    assert get().status_code == 200
    limited.set_clock(advance_seconds=3600)
    assert get().status_code == 429


def test_bookings_have_a_limit_of_their_own(limited, http):
    limited.reset(gateway_rps=0, rate_limit_per_minute=10_000)
    headers = {"Authorization": f"Bearer {limited.api_key}"}
    answers = [http.post(f"{limited.gateway_url}/invitees", json={}, headers=headers) for _ in range(11)]
    assert [answer.status_code for answer in answers] == [400] * 10 + [429]
    assert answers[-1].headers["x-ratelimit-limit"] == "10"


class Watch:
    """A clock that stands still until it is moved."""

    seconds = 0.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def watch():
    return Watch()


def test_ten_requests_a_second_are_the_default(watch):
    counted = Limits(Options(), watch)
    for _ in range(10):
        counted.gateway("key")
    with pytest.raises(Refusal) as refused:
        counted.gateway("key")
    assert refused.value.status == 429
    watch.seconds = 0.1
    counted.gateway("key")


@pytest.mark.parametrize(
    ("plan", "seconds", "most", "limits"),
    [("teams", 60, 10, {10}), ("teams", 3600, 50, {10, 50}), ("teams", 86_400, 100, {10, 50, 100}),
     ("enterprise", 60, 500, {500}), ("enterprise", 180, 1500, {500})],
)  # fmt: skip
def test_a_user_who_waits_as_told_can_book_so_often_within_a_time(watch, plan, seconds, most, limits):
    counted = Limits(Options(plan=plan), watch)
    booked, met = 0, set()
    while watch.seconds < seconds:
        try:
            counted.booking("alice")
            booked += 1
        except Refusal as refusal:
            met.add((refusal.status, int(refusal.headers["x-ratelimit-limit"])))
            watch.seconds += int(refusal.headers["x-ratelimit-reset"])
            counted.booking("zoe")
    assert (booked, met) == (most, {(429, limit) for limit in limits})


def test_the_gateways_bucket_fills_again_and_calendlys_minute_ends(watch):
    counted = Limits(Options(gateway_rps=2, rate_limit_per_minute=1), watch)
    for _ in range(2):
        counted.gateway("key")
    with pytest.raises(Refusal):
        counted.gateway("key")
    watch.seconds = 0.5
    counted.gateway("key")
    with pytest.raises(Refusal):
        counted.gateway("key")
    assert counted.calendly("alice")["x-ratelimit-reset"] == "60"
    watch.seconds = 50
    with pytest.raises(Refusal) as refused:
        counted.calendly("alice")
    assert refused.value.headers["x-ratelimit-reset"] == "11"
    watch.seconds = 60.5
    assert counted.calendly("alice")["x-ratelimit-remaining"] == "0"


def test_who_goes_away_in_the_middle_of_a_request_has_asked_for_nothing(api):
    body = b'{"reason": "Never sent to its end'
    for sent in (b"", body):
        with socket.create_connection((urlsplit(api.sandbox.url).hostname, urlsplit(api.sandbox.url).port)) as client:
            head = [
                f"POST /calendly/scheduled_events/{api.event.rpartition('/')[2]}/cancellation HTTP/1.1",
                "Host: localhost",
                f"Authorization: Bearer {api.sandbox.api_key}",
                "Content-Type: application/json",
                f"Content-Length: {len(body) + 2}",
            ]
            client.sendall("\r\n".join([*head, "", ""]).encode() + sent)
    api.post("/scheduled_events/NOTHING/cancellation", {})  # when this is answered, they have been seen to go
    assert api.sandbox.stats()["by_route"] == {"POST /scheduled_events/{uuid}/cancellation": 1}
    assert api.resource(api.event)["status"] == "active"
