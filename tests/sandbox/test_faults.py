"""Faults as a client sees them, over real sockets; and whether the request took effect."""

from __future__ import annotations

import httpx
import pytest


@pytest.fixture
def upcoming(api):
    return api.sandbox.add_event("2025-04-01T14:00:00Z", invitees=[{"email": "x@example.com"}])


@pytest.mark.parametrize(
    ("kind", "options", "status", "body"),
    [
        ("unauthorized_gateway", {}, 401, {"error": {"message": "Invalid or missing API key"}}),
        (
            "unauthorized_calendly",
            {},
            401,
            {"title": "Unauthenticated", "message": "The access token is invalid"},
        ),
        ("unauthorized_gateway", {"message": "No key x"}, 401, {"error": {"message": "No key x"}}),
        ("unauthorized_calendly", {"message": "Gone"}, 401, {"title": "Unauthenticated", "message": "Gone"}),
        (
            "insufficient_scope",
            {"required_scopes": ["users:read"]},
            403,
            {
                "title": "Insufficient scope",
                "message": "This operation requires the scopes listed in the 'required_scopes' array.",
                "required_scopes": ["users:read"],
            },
        ),
        (
            "permission_denied",
            {},
            403,
            {
                "title": "Permission Denied",
                "message": "You do not have permission to access this resource.",
            },
        ),
        (
            "permission_denied",
            {"message": "Not today"},
            403,
            {"title": "Permission Denied", "message": "Not today"},
        ),
        (
            "plan",
            {},
            403,
            {"title": "Permission Denied", "message": "Please upgrade your Calendly account to Standard"},
        ),
        (
            "not_found",
            {},
            404,
            {
                "title": "Resource Not Found",
                "message": "The server could not find the requested resource.",
            },
        ),
        (
            "already_exists",
            {},
            409,
            {"title": "Already Exists", "message": "The resource already exists"},
        ),
        (
            "already_exists",
            {"message": "Hook with this url already exists"},
            409,
            {"title": "Already Exists", "message": "Hook with this url already exists"},
        ),
        (
            "bad_request_without_details",
            {},
            400,
            {"title": "Invalid Argument", "message": "The supplied parameters are invalid."},
        ),
        (
            "external_calendar",
            {},
            424,
            {
                "title": "External Calendar Error",
                "message": "There is a problem accessing your calendar.",
            },
        ),
        (
            "server_error",
            {},
            500,
            {
                "title": "Internal Server Error",
                "message": "The server encountered an unexpected condition that prevented it from"
                " fulfilling the request.",
            },
        ),
        ("unavailable", {}, 503, {"message": "Service Unavailable"}),
    ],
)
def test_an_error_is_answered_once_and_then_all_is_well(api, kind, options, status, body):
    api.sandbox.fault(kind, **options)
    answer = api.get("/users/me")
    assert (answer.status_code, answer.json()) == (status, body)
    assert api.get("/users/me").status_code == 200
    assert api.sandbox.stats()["faults"] == {kind: 1}


def test_a_502_of_a_proxy_is_html(api):
    api.sandbox.fault("html_502")
    answer = api.get("/users/me")
    assert (answer.status_code, answer.headers["content-type"]) == (502, "text/html")
    assert answer.text.startswith("<html>")


@pytest.mark.parametrize("retry_after", [None, 7])
def test_rate_limited_in_both_shapes(api, retry_after):
    api.sandbox.fault("rate_limited", reset=42, retry_after=retry_after)
    answer = api.get("/users/me")
    assert (answer.status_code, answer.json()["title"]) == (429, "Too Many Requests")
    assert (answer.headers["x-ratelimit-reset"], answer.headers["x-ratelimit-remaining"]) == ("42", "0")
    assert answer.headers.get("retry-after") == (None if retry_after is None else "7")
    api.sandbox.fault("rate_limited", shape="maton", retry_after=retry_after)
    answer = api.get("/users/me")
    assert (answer.status_code, answer.json().keys()) == (429, {"message"})
    assert "x-ratelimit-reset" not in answer.headers
    api.sandbox.fault("rate_limited", reset=None)
    assert "x-ratelimit-reset" not in api.get("/users/me").headers


def test_a_redirect_leads_elsewhere(api):
    api.sandbox.fault("redirect", location="https://evil.example/")
    answer = api.get("/users/me")
    assert (answer.status_code, answer.headers["location"]) == (302, "https://evil.example/")


@pytest.mark.parametrize(
    ("kind", "error", "effect"),
    [
        ("drop_before", httpx.RemoteProtocolError, False),
        ("reset", httpx.ReadError, False),
        ("drop_after", httpx.RemoteProtocolError, True),
        ("truncated_body", httpx.RemoteProtocolError, True),
    ],
)
def test_a_lost_connection(api, upcoming, kind, error, effect):
    api.sandbox.fault(kind, method="POST")
    with pytest.raises(error):
        api.post(f"{upcoming}/cancellation", {})
    assert (api.resource(upcoming)["status"] == "canceled") is effect
    assert api.sandbox.stats()["writes"] == ({"cancellation": 1} if effect else {})


@pytest.mark.parametrize("kind", ["drop_before", "reset", "drop_after", "truncated_body"])
def test_a_connection_is_lost_for_the_one_request_only(api, kind):
    api.sandbox.fault(kind, times=3)
    for _ in range(3):
        with pytest.raises(httpx.TransportError):
            api.get("/users/me")
    assert api.get("/users/me").status_code == 200


def test_a_truncated_body_has_the_headers_of_a_whole_one(api):
    whole = len(api.get("/users/me").content)
    api.sandbox.fault("truncated_body")
    headers = {"Authorization": f"Bearer {api.sandbox.api_key}"}
    with api.http.stream("GET", f"{api.sandbox.gateway_url}/users/me", headers=headers) as answer:
        assert (answer.status_code, int(answer.headers["content-length"])) == (200, whole)
        received: list[bytes] = []
        with pytest.raises(httpx.RemoteProtocolError):
            received.extend(answer.iter_raw())
    assert 0 < len(b"".join(received)) < whole


def test_malformed_json_is_complete_on_the_wire(api):
    whole = api.get("/users/me").content
    api.sandbox.fault("malformed_json")
    answer = api.get("/users/me")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.content == whole[: len(whole) // 2]
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        answer.json()


def test_a_wrong_content_type(api):
    api.sandbox.fault("wrong_content_type")
    answer = api.get("/users/me")
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.status_code == 200


def test_an_error_after_the_effect(api, upcoming):
    api.sandbox.fault("error_after", method="POST")
    answer = api.post(f"{upcoming}/cancellation", {})
    assert (answer.status_code, answer.json()["title"]) == (500, "Internal Server Error")
    assert api.resource(upcoming)["status"] == "canceled"


def test_the_cancellation_reason_quirk(api, upcoming):
    api.sandbox.fault("cancellation_reason_quirk", times=None)
    answer = api.post(f"{upcoming}/cancellation", {"reason": "why"})
    assert (answer.status_code, answer.json()) == (
        400,
        {"title": "Invalid Argument", "message": "The supplied parameters are invalid."},
    )
    assert api.resource(upcoming)["status"] == "active"
    answer = api.post(f"{upcoming}/cancellation", {})
    assert (answer.status_code, answer.json()["resource"]["reason"]) == (201, None)


def test_latency_makes_a_client_time_out_but_the_request_counts(api, upcoming):
    api.sandbox.fault("latency", seconds=60, method="POST")
    with pytest.raises(httpx.ReadTimeout):
        api.request("POST", f"{upcoming}/cancellation", json={}, timeout=0.2)
    assert api.resource(upcoming)["status"] == "canceled"


def test_latency_adds_to_another_fault(api):
    api.sandbox.fault("latency", seconds=60)
    api.sandbox.fault("drop_before")
    with pytest.raises(httpx.ReadTimeout):
        api.request("GET", "/users/me", timeout=0.1)
    assert api.get("/users/me").status_code == 200


# Changed answers


def test_a_member_goes_missing(api):
    api.sandbox.fault("missing_member", member="timezone")
    assert "timezone" not in api.resource("/users/me")
    assert "timezone" in api.resource("/users/me")
    api.sandbox.fault("missing_member", member="invitees_counter.limit", item=1)
    items = api.get("/scheduled_events", user=api.alice, count=3).json()["collection"]
    assert ["limit" in item["invitees_counter"] for item in items] == [True, False, True]
    api.sandbox.fault("missing_member", member="uri")
    items = api.get("/scheduled_events", user=api.alice, count=3).json()["collection"]
    assert [item for item in items if "uri" in item] == []
    api.sandbox.fault("missing_member", member="pagination.next_page_token")
    page = api.get("/scheduled_events", user=api.alice, count=3).json()
    assert "next_page_token" not in page["pagination"]


def test_a_member_comes_in_or_has_a_new_value(api):
    api.sandbox.fault("extra_member", member="mood", value="cheerful")
    assert api.resource("/users/me")["mood"] == "cheerful"
    api.sandbox.fault("extra_member")
    api.sandbox.fault("enum_value", member="status", value="postponed")
    event = api.resource(api.event)
    assert event["status"] == "postponed"
    assert event["added_without_notice"] == {"new": True}
    assert api.resource(api.event)["status"] == "active"


def test_changed_answers_do_not_change_the_world(api):
    api.sandbox.fault("enum_value", member="name", value="Mallory", times=2)
    assert api.resource("/users/me")["name"] == "Mallory"
    api.sandbox.clear_faults()
    assert api.resource("/users/me")["name"] == "Alice Johnson"


# Which requests


def statuses(api, path, times):
    return [api.get(path).status_code for _ in range(times)]


def test_skip_every_and_times(api):
    api.sandbox.fault("server_error", skip=2, every=2, times=2)
    assert statuses(api, "/users/me", 8) == [200, 200, 200, 500, 200, 500, 200, 200]


def test_for_ever_until_cleared_or_reset(api):
    api.sandbox.fault("server_error", times=None)
    assert statuses(api, "/users/me", 3) == [500] * 3
    api.sandbox.clear_faults()
    assert statuses(api, "/users/me", 1) == [200]
    api.sandbox.fault("server_error", times=None)
    api.sandbox.reset()
    assert statuses(api, "/users/me", 1) == [200]


def test_a_fault_of_one_method_route_or_path(api):
    api.sandbox.fault("server_error", route="/scheduled_events/{anything}/invitees", times=None)
    assert statuses(api, api.event, 1) == [200]
    assert statuses(api, f"{api.event}/invitees", 1) == [500]
    api.sandbox.clear_faults()
    api.sandbox.fault("not_found", path="/scheduled_events/DDDDDDDDDDDDDDDD", times=None)
    assert statuses(api, api.event, 1) == [404]
    assert statuses(api, f"{api.event}/invitees", 1) == [200]
    api.sandbox.clear_faults()
    api.sandbox.fault("server_error", method="POST")
    assert statuses(api, api.event, 2) == [200, 200]
    assert api.post("/invitees", {}).status_code == 500


def test_two_faults_take_turns_and_neither_is_lost(api):
    api.sandbox.fault("server_error")
    api.sandbox.fault("unavailable")
    assert statuses(api, "/users/me", 3) == [500, 503, 200]


def test_connections_and_native_have_faults_too(api):
    api.sandbox.fault("server_error", route="/connections")
    assert api.request("GET", "/connections", base=api.sandbox.connections_url).status_code == 500
    api.sandbox.fault("drop_before", path="/native/users/me")
    assert api.get("/users/me").status_code == 200
    with pytest.raises(httpx.RemoteProtocolError):
        api.request("GET", "/users/me", base=api.sandbox.native_url, key=api.sandbox.native_token)


@pytest.mark.parametrize(
    "fault",
    [
        {},
        {"kind": "earthquake"},
        {"kind": "latency"},
        {"kind": "missing_member"},
        {"kind": "server_error", "every": 0},
        {"kind": "server_error", "times": 0},
        {"kind": "server_error", "skip": -1},
        "server_error",
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(api, fault):
    with pytest.raises(ValueError, match=r"fault must have (a kind|')|times and every must be at least 1"):
        api.sandbox.control("POST", "/faults", fault)
    assert api.sandbox.control("GET", "/faults") == {"faults": []}


def test_several_faults_in_one_call(api):
    api.sandbox.control("POST", "/faults", [{"kind": "server_error"}, {"kind": "not_found"}])
    assert statuses(api, "/users/me", 3) == [500, 404, 200]
