"""The documented examples are in the world, under their identifiers, with all members of the reference."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

ALICE = {
    "uri": "https://api.calendly.com/users/AAAAAAAAAAAAAAAA",
    "name": "Alice Johnson",
    "slug": "alice-johnson",
    "email": "alice.johnson@acme.com",
    "scheduling_url": "https://calendly.com/alice-johnson",
    "timezone": "America/New_York",
    "avatar_url": "https://example.com/avatar.png",
    "created_at": "2024-01-15T10:30:00.000000Z",
    "updated_at": "2025-06-20T14:45:00.000000Z",
    "current_organization": "https://api.calendly.com/organizations/BBBBBBBBBBBBBBBB",
}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def includes(actual: Any, expected: Any) -> bool:
    """Whether every documented value is there; more members may be."""
    if isinstance(expected, dict):
        return isinstance(actual, dict) and all(
            name in actual and includes(actual[name], value) for name, value in expected.items()
        )
    if isinstance(expected, list):
        return len(actual) == len(expected) and all(map(includes, actual, expected))
    return bool(actual == expected)


@pytest.mark.parametrize("path", ["/users/me", "/users/AAAAAAAAAAAAAAAA"])
def test_alice(api, path):
    user = api.resource(path)
    assert includes(user, ALICE)
    assert user.keys() - ALICE.keys() == {"resource_type", "locale", "time_notation"}


def test_event_type(api):
    page = api.get("/event_types", user=api.alice, count=100).json()
    (item,) = (t for t in page["collection"] if t["uri"] == api.event_type)
    assert includes(
        item,
        {
            "name": "30 Minute Meeting",
            "active": True,
            "slug": "30min",
            "scheduling_url": "https://calendly.com/alice-johnson/30min",
            "duration": 30,
            "kind": "solo",
            "type": "StandardEventType",
            "color": "#0066FF",
            "created_at": "2024-02-01T09:00:00.000000Z",
            "updated_at": "2025-05-15T11:30:00.000000Z",
            "description_plain": "A quick 30-minute catch-up call",
            "description_html": "<p>A quick 30-minute catch-up call</p>",
            "profile": {"type": "User", "name": "Alice Johnson", "owner": api.alice},
        },
    )
    assert item == api.resource(api.event_type)
    assert set(item) == {
        "uri",
        "name",
        "active",
        "slug",
        "scheduling_url",
        "duration",
        "duration_options",
        "kind",
        "pooling_type",
        "type",
        "color",
        "created_at",
        "updated_at",
        "deleted_at",
        "internal_note",
        "description_plain",
        "description_html",
        "is_paid",
        "profile",
        "secret",
        "booking_method",
        "custom_questions",
        "admin_managed",
        "locations",
        "position",
        "locale",
    }


def test_event_and_invitee(api):
    event = api.resource(api.event)
    assert includes(
        event,
        {
            "name": "30 Minute Meeting",
            "status": "active",
            "start_time": "2025-03-15T14:00:00.000000Z",
            "end_time": "2025-03-15T14:30:00.000000Z",
            "event_type": api.event_type,
            "location": {"type": "zoom", "status": "pushed", "join_url": "https://zoom.us/j/123456789"},
            "invitees_counter": {"total": 1, "active": 1, "limit": 1},
            "created_at": "2025-03-10T09:15:00.000000Z",
            "updated_at": "2025-03-10T09:15:00.000000Z",
            "event_memberships": [{"user": api.alice, "user_email": "alice.johnson@acme.com"}],
            "event_guests": [],
        },
    )
    assert "cancellation" not in event
    page = api.get(f"{api.event}/invitees").json()
    (invitee,) = page["collection"]
    assert includes(
        invitee,
        {
            "uri": f"{api.event}/invitees/EEEEEEEEEEEEEEEE",
            "email": "bob.smith@example.com",
            "name": "Bob Smith",
            "status": "active",
            "timezone": "America/Los_Angeles",
            "event": api.event,
            "created_at": "2025-03-10T09:15:00.000000Z",
            "questions_and_answers": [
                {
                    "question": "What would you like to discuss?",
                    "answer": "Project timeline review",
                    "position": 0,
                }
            ],
            "tracking": dict.fromkeys(
                ["utm_source", "utm_medium", "utm_campaign", "utm_content", "utm_term", "salesforce_uuid"]
            ),
            "cancel_url": "https://calendly.com/cancellations/EEEEEEEEEEEEEEEE",
            "reschedule_url": "https://calendly.com/reschedulings/EEEEEEEEEEEEEEEE",
        },
    )
    assert invitee == api.resource(f"{api.event}/invitees/EEEEEEEEEEEEEEEE")
    assert page["pagination"] == {
        "count": 1,
        "next_page": None,
        "previous_page": None,
        "next_page_token": None,
        "previous_page_token": None,
    }


def test_available_and_busy_times(api):
    window = {"start_time": "2025-03-17T00:00:00Z", "end_time": "2025-03-19T00:00:00Z"}
    slots = api.get("/event_type_available_times", event_type=api.event_type, **window).json()["collection"]
    assert {"2025-03-17T14:00:00.000000Z", "2025-03-17T14:30:00.000000Z"} <= {s["start_time"] for s in slots}
    slot = next(s for s in slots if s["start_time"] == "2025-03-17T14:00:00.000000Z")
    assert (slot["status"], slot["invitees_remaining"]) == ("available", 1)
    assert slot["scheduling_url"] == (
        "https://calendly.com/alice-johnson/30min/2025-03-17T14:00:00Z?month=2025-03&date=2025-03-17"
    )
    busy = api.get("/user_busy_times", user=api.alice, **window).json()["collection"]
    assert any(
        includes(
            item,
            {
                "type": "calendly",
                "start_time": "2025-03-17T10:00:00.000000Z",
                "end_time": "2025-03-17T11:00:00.000000Z",
            },
        )
        and api.resource(item["event"]["uri"])["start_time"] == item["buffered_start_time"]
        for item in busy
    )
    assert {
        "type": "external",
        "start_time": "2025-03-18T14:00:00.000000Z",
        "end_time": "2025-03-18T15:00:00.000000Z",
    } in busy
    assert busy == sorted(busy, key=lambda item: item["start_time"])


def test_membership(api):
    (item,) = api.get("/organization_memberships", user=api.alice).json()["collection"]
    assert item["uri"] == f"{api.uri}/organization_memberships/FFFFFFFFFFFFFFFF"
    assert (item["role"], item["organization"]) == ("admin", api.organization)
    assert includes(item["user"], {k: v for k, v in ALICE.items() if k != "current_organization"})
    assert "current_organization" not in item["user"]
    assert item == api.resource("/organization_memberships/FFFFFFFFFFFFFFFF")


def test_webhook_subscription(api):
    assert api.resource("/webhook_subscriptions/GGGGGGGGGGGGGGGG") == {
        "uri": f"{api.uri}/webhook_subscriptions/GGGGGGGGGGGGGGGG",
        "callback_url": "https://example.com/webhook",
        "created_at": "2025-03-01T12:00:00.000000Z",
        "updated_at": "2025-03-01T12:00:00.000000Z",
        "retry_started_at": None,
        "state": "active",
        "events": ["invitee.created", "invitee.canceled"],
        "scope": "organization",
        "organization": api.organization,
        "user": None,
        "group": None,
        "creator": api.alice,
    }


def test_connection(api):
    response = api.request("GET", f"/connections/{api.connection}", base=api.sandbox.connections_url)
    assert includes(
        response.json(),
        {
            "connection": {
                "connection_id": "21fd90f9-5935-43cd-b6c8-bde9d915ca80",
                "status": "ACTIVE",
                "creation_time": "2025-12-08T07:20:53.488460Z",
                "last_updated_time": "2026-01-31T20:03:32.593153Z",
                "app": "calendly",
                "metadata": {},
            }
        },
    )
    url = response.json()["connection"]["url"]
    assert re.fullmatch(r"https://connect\.maton\.ai/\?session_token=\w+", url)


def test_every_time_is_written_with_six_digits_and_z(api):
    text = json.dumps(api.everything("/scheduled_events", organization=api.organization))
    text += json.dumps(api.everything("/event_types", organization=api.organization))
    found = re.findall(r'"(?:\w+_time|\w+_at)": "([^"]*)"', text)
    assert len(found) > 500
    assert [value for value in found if not TIME.fullmatch(value)] == []
