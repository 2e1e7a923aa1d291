"""Deliveries as Calendly's reference describes them."""

from __future__ import annotations

import copy
import json
import secrets
from typing import Any
from uuid import UUID

from prefect_calendly.invitees import Invitee
from prefect_calendly.scheduled_events import ScheduledEvent
from prefect_calendly.webhooks.deliveries import parse_delivery
from prefect_calendly.webhooks.delivery_events import events_of_delivery

API = "https://api.calendly.com"
OLD = f"{API}/scheduled_events/OLDEVENT/invitees/OLDINVITEE"
NEW = f"{API}/scheduled_events/NEWEVENT/invitees/NEWINVITEE"
CREATED = "2026-11-20T10:00:00.000000Z"
CHANGED = "2026-11-20T11:00:00.000000Z"
TOLD = "2026-11-20T11:00:01.000000Z"
PRIVATE = (
    *("https://zoom.us/j/1234567", "+49 30 1234567", "Because my cat is ill", "I have a rash", "Jo Host said so"),
    *("/cancellations/", "/reschedulings/", "guest@example.org", "Bring the contract", "secret-password"),
)


def _event(uri: str, **changes: Any) -> dict[str, Any]:
    return {
        "uri": uri,
        "name": "30 Minute Meeting",
        "meeting_notes_plain": "Bring the contract",
        "meeting_notes_html": None,
        "status": "active",
        "start_time": "2026-12-01T10:00:00.000000Z",
        "end_time": "2026-12-01T10:30:00.000000Z",
        "event_type": f"{API}/event_types/TYPE",
        "location": {
            "type": "zoom",
            "status": "pushed",
            "join_url": "https://zoom.us/j/1234567",
            "data": {"id": "1234567", "password": "secret-password"},
        },
        "invitees_counter": {"total": 1, "active": 1, "limit": 1},
        "created_at": CREATED,
        "updated_at": CHANGED,
        "event_memberships": [
            {"user": f"{API}/users/HOST", "user_email": "host@acme.example", "user_name": "Jo Host"},
            {"user": f"{API}/users/COHOST", "user_email": "cohost@acme.example", "user_name": "Co Host"},
        ],
        "event_guests": [{"email": "guest@example.org", "created_at": CREATED, "updated_at": CREATED}],
        **changes,
    }


def invitee(uri: str = NEW, **changes: Any) -> dict[str, Any]:
    """An invitee as it is delivered; `scheduled_event` can be changed too."""
    event = uri.rpartition("/invitees/")[0]
    scheduled = _event(event, **changes.pop("scheduled_event", {}))
    return {
        "uri": uri,
        "email": "Jane.Doe@Shop.Example",
        "name": "Jane Doe",
        "first_name": None,
        "last_name": None,
        "status": "active",
        "questions_and_answers": [{"question": "What is it about?", "answer": "I have a rash", "position": 0}],
        "timezone": "Europe/Berlin",
        "event": event,
        "created_at": CREATED,
        "updated_at": CHANGED,
        "tracking": {"utm_campaign": "autumn", "utm_source": None},
        "text_reminder_number": "+49 30 1234567",
        "rescheduled": False,
        "old_invitee": None,
        "new_invitee": None,
        "cancel_url": "https://calendly.com/cancellations/NEWINVITEE",
        "reschedule_url": "https://calendly.com/reschedulings/NEWINVITEE",
        "routing_form_submission": None,
        "payment": None,
        "no_show": None,
        "reconfirmation": None,
        "scheduling_method": None,
        "invitee_scheduled_by": None,
        "scheduled_event": scheduled,
        **changes,
    }


def as_listed(invitee: dict[str, Any]) -> tuple[Invitee, ScheduledEvent]:
    """The same invitee and their event, as the API returns them: one after the other."""
    person = {name: value for name, value in invitee.items() if name != "scheduled_event"}
    return Invitee.model_validate(person), ScheduledEvent.model_validate(invitee["scheduled_event"])


def canceled(uri: str = NEW, **changes: Any) -> dict[str, Any]:
    cancellation = {
        "canceled_by": "Jo Host said so",
        "reason": "Because my cat is ill",
        "canceler_type": "invitee",
        "created_at": CHANGED,
    }
    event = {"status": "canceled", "cancellation": cancellation}
    return invitee(uri, status="canceled", cancellation=cancellation, scheduled_event=event, **changes)


_PAYLOADS: dict[str, Any] = {
    "invitee.created": invitee(),
    "invitee.canceled": canceled(),
    "invitee_no_show.created": invitee(no_show={"uri": f"{API}/invitee_no_shows/MARK", "created_at": CHANGED}),
    "invitee_no_show.deleted": invitee(),
    "routing_form_submission.created": {
        "uri": f"{API}/routing_form_submissions/SUBMISSION",
        "routing_form": f"{API}/routing_forms/FORM",
        "questions_and_answers": [{"question_uuid": None, "question": "Why?", "answer": "I have a rash"}],
        "tracking": {"utm_source": "mail"},
        "result": {"type": "custom_message", "value": {"headline": "Thanks", "body": "Because my cat is ill"}},
        "submitter": NEW,
        "submitter_type": "Invitee",
        "created_at": CREATED,
        "updated_at": CREATED,
    },
    **{
        f"contact.{what}": {
            "user_uuid": "HOST",
            "contact": {
                "uri": f"{API}/contacts/CONTACT",
                "name": "Jane Doe",
                "emails": [{"email": "guest@example.org", "is_primary": True}],
                "phone_numbers": [{"phone_number": "+49 30 1234567"}],
                "created_at": CREATED,
                "updated_at": CHANGED,
                "creation_source": "api",
            },
        }
        for what in ("created", "updated")
    },
    "contact.deleted": {"user_uuid": "HOST", "contact": {"uri": f"{API}/contacts/CONTACT", "deleted_at": CHANGED}},
    **{
        f"meeting_recap.{what}": {
            "event": {
                "uri": f"{API}/scheduled_events/NEWEVENT",
                "name": "Because my cat is ill",
                "start_time": CREATED,
                "end_time": CHANGED,
                "location": "https://zoom.us/j/1234567",
                "attendees": [{"user_email": "guest@example.org"}],
            },
            "recap": {"uri": f"{API}/meeting_recaps/RECAP", "summary_md": "I have a rash", "updated_at": CHANGED},
        }
        for what in ("created", "updated")
    },
    "meeting_recap.deleted": {"recap": {"uri": f"{API}/meeting_recaps/RECAP", "deleted_at": CHANGED}},
    **{
        f"event_type.{what}": {
            "uri": f"{API}/event_types/TYPE",
            "name": "30 Minute Meeting",
            "active": True,
            "slug": "30min",
            "scheduling_url": "https://calendly.com/jo/30min",
            "duration": 30,
            "kind": "solo",
            "type": "StandardEventType",
            "color": "#0066ff",
            "internal_note": "Jo Host said so",
            "description_plain": "I have a rash",
            "created_at": CREATED,
            "updated_at": CHANGED,
            "deleted_at": CHANGED if what == "deleted" else None,
            "profile": {"type": "User", "name": "Jo Host", "owner": f"{API}/users/HOST"},
        }
        for what in ("created", "updated", "deleted")
    },
}
_PAYLOADS["meeting_recap.created"]["created_at"] = CREATED


def delivered(event: str, payload: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """A delivery of an event."""
    body = {"event": event, "created_at": TOLD, "created_by": f"{API}/users/ADMIN", **changes}
    return {**body, "payload": copy.deepcopy(_PAYLOADS[event]) if payload is None else payload}


def booking(number: int | str) -> dict[str, Any]:
    """A delivery of a booking of its own."""
    return delivered("invitee.created", invitee(f"{API}/scheduled_events/EVENT{number}/invitees/INVITEE{number}"))


def event_ids(*deliveries: dict[str, Any]) -> set[UUID]:
    """The ids of all events of some deliveries."""
    bodies = (json.dumps(each).encode() for each in deliveries)
    return {event.id for body in bodies for event in events_of_delivery(parse_delivery(body))}


def new_booking() -> bytes:
    """The body of a delivery of a booking like no other."""
    return json.dumps(booking(secrets.token_hex(6))).encode()


def first_id(body: bytes) -> UUID:
    """The id of the first event of a delivery."""
    return events_of_delivery(parse_delivery(body))[0].id
