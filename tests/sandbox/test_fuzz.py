"""Whatever a caller sends is answered as Calendly or the gateway does, never with a crash."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

URI = "https://api.calendly.com"
BODIES = {
    "/invitees": {
        "event_type": f"{URI}/event_types/CCCCCCCCCCCCCCCC",
        "start_time": "2025-03-20T15:00:00Z",
        "invitee": {"name": "Bob", "email": "b@example.com", "timezone": "UTC"},
        "location": {"kind": "zoom_conference"},
        "questions_and_answers": [{"question": "What would you like to discuss?", "answer": "x", "position": 0}],
        "event_guests": ["g@example.com"],
        "tracking": {},
    },
    "/event_types/CCCCCCCCCCCCCCCC/invitees": {
        "start_time": "2025-03-20T15:00:00Z",
        "email": "b@example.com",
        "name": "Bob",
        "timezone": "UTC",
        "location": {"kind": "zoom"},
        "questions_and_answers": [{"question_uuid": "QQQQQQQQQQQQQQQ", "answer": "x"}],
    },
    "/webhook_subscriptions": {
        "url": "https://example.com/f",
        "events": ["invitee.created"],
        "organization": f"{URI}/organizations/BBBBBBBBBBBBBBBB",
        "scope": "user",
        "user": f"{URI}/users/AAAAAAAAAAAAAAAA",
        "signing_key": "k",
    },
    "/invitee_no_shows": {"invitee": f"{URI}/scheduled_events/DDDDDDDDDDDDDDDD/invitees/EEEEEEEEEEEEEEEE"},
    "/scheduling_links": {
        "max_event_count": 1,
        "owner": f"{URI}/event_types/CCCCCCCCCCCCCCCC",
        "owner_type": "EventType",
    },
    "/scheduled_events/DDDDDDDDDDDDDDDD/cancellation": {"reason": "x"},
    "/connections": {"app": "calendly", "method": "OAUTH2"},
}
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
READS = {
    "/event_types": ["user", "organization", "active", "sort", "user_availability_schedule"],
    "/scheduled_events": ["user", "organization", "group", "invitee_email", "status", "min_start_time", "sort"],
    "/event_type_available_times": ["event_type", "start_time", "end_time"],
    "/user_busy_times": ["user", "start_time", "end_time"],
    "/organization_memberships": ["user", "organization", "email", "role"],
    "/webhook_subscriptions": ["organization", "scope", "user", "group"],
    "/sample_webhook_data": ["event", "organization", "scope", "user"],
}
PLAUSIBLE = [
    *(f"{URI}/users/AAAAAAAAAAAAAAAA", f"{URI}/organizations/BBBBBBBBBBBBBBBB", f"{URI}/users/NOBODY"),
    *("2025-03-20T15:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "user", "invitee.created"),
    *("organization", "start_time:desc", "name:asc,name:desc", "active", "true", "a@b", ""),
]
lax = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@lax
@given(data=st.data(), path=st.sampled_from(sorted(BODIES)))
def test_any_body_is_answered(api, data, path):
    body = dict(BODIES[path])
    for name in data.draw(st.sets(st.sampled_from(sorted(body)), min_size=1, max_size=2)):
        inner = body[name]
        if isinstance(inner, list) and inner and isinstance(inner[0], dict):
            inner = inner[0]
        if isinstance(inner, dict) and inner and data.draw(st.booleans()):
            changed = {**inner, data.draw(st.sampled_from(sorted(inner))): data.draw(VALUES)}
            body[name] = [changed] if isinstance(body[name], list) else changed
        else:
            body[name] = data.draw(VALUES)
    base = api.sandbox.url if path == "/connections" else api.sandbox.gateway_url
    answer = api.request("POST", path, base=base, json=body)
    assert answer.status_code in (200, 201, 400, 403, 404, 409, 422), (body, answer.text)
    assert isinstance(answer.json(), dict)


@lax
@given(data=st.data(), path=st.sampled_from(sorted(READS)))
def test_any_query_is_answered(api, data, path):
    values = st.sampled_from(PLAUSIBLE) | st.text(max_size=8)
    query = data.draw(st.dictionaries(st.sampled_from([*READS[path], "count", "page_token"]), values))
    answer = api.get(path, **query)
    assert answer.status_code in (200, 400, 403, 404), (query, answer.text)
    assert isinstance(answer.json(), dict)


@lax
@given(path=st.text(max_size=12), method=st.sampled_from(["GET", "POST", "DELETE", "PATCH", "PUT"]))
def test_any_path_is_answered(api, path, method):
    from urllib.parse import quote

    for mount in ("/calendly/", "/connections/", "/native/", "/"):
        answer = api.request(method, mount + quote(path, safe=""), base=api.sandbox.url)
        assert answer.status_code in (200, 401, 404, 422), (mount, path, answer.text)
