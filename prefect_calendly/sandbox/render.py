"""Records as JSON, with exactly the members that the reference documents."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from prefect_calendly.sandbox.clock import iso
from prefect_calendly.sandbox.model import (
    API,
    CONFERENCES,
    PAGES,
    Cancellation,
    Connection,
    Event,
    EventType,
    Group,
    Invitee,
    Location,
    NoShow,
    Organization,
    Schedule,
    User,
    Webhook,
)
from prefect_calendly.sandbox.slots import Slot

JSON = dict[str, Any]
TRACKING = ("utm_campaign", "utm_source", "utm_medium", "utm_content", "utm_term", "salesforce_uuid")
# Events spell two kinds of locations differently from event types and requests.
EVENT_LOCATION = {"zoom_conference": "zoom", "gotomeeting_conference": "gotomeeting"}
# A conference is set up a moment after the booking; until then it has no link.
CONFERENCE_SETUP = timedelta(seconds=5)


def encoded(body: Any) -> bytes:
    """Encode JSON; a lone surrogate, which UTF-8 cannot encode, becomes a question mark."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def user(item: User) -> JSON:
    return {
        **member(item),
        "current_organization": item.organization.uri,
        "resource_type": "User",
        "time_notation": "12h",
    }


def member(item: User) -> JSON:
    """The user inside a membership."""
    return {
        "uri": item.uri,
        "name": item.name,
        "slug": item.slug,
        "email": item.email,
        "scheduling_url": f"{PAGES}/{item.slug}",
        "timezone": item.timezone,
        "avatar_url": item.avatar_url,
        "locale": item.locale,
        "created_at": iso(item.created),
        "updated_at": iso(item.updated),
    }


def membership(item: User) -> JSON:
    return {
        "uri": f"{API}/organization_memberships/{item.membership}",
        "role": item.role,
        "user": member(item),
        "organization": item.organization.uri,
        "created_at": iso(item.created),
        "updated_at": iso(item.updated),
    }


def organization(item: Organization) -> JSON:
    return {
        "uri": item.uri,
        "name": item.name,
        "kind": "multiple",
        "plan": item.plan,
        "stage": item.stage,
        "created_at": iso(item.created),
        "updated_at": iso(item.created),
    }


def group(item: Group) -> JSON:
    return {
        "uri": item.uri,
        "name": item.name,
        "organization": item.organization.uri,
        "member_count": len(item.members),
        "created_at": iso(item.created),
        "updated_at": iso(item.created),
    }


def event_type(item: EventType) -> JSON:
    owner = item.hosts[0]
    return {
        "uri": item.uri,
        "name": item.name,
        "active": item.active,
        "slug": item.slug,
        "scheduling_url": item.scheduling_url,
        "duration": item.duration,
        "duration_options": item.duration_options,
        "kind": item.kind,
        "pooling_type": item.pooling,
        "type": "StandardEventType",
        "color": item.color,
        "created_at": iso(item.created),
        "updated_at": iso(item.updated),
        "deleted_at": None,
        "internal_note": None,
        "description_plain": item.description,
        "description_html": f"<p>{item.description}</p>" if item.description else None,
        "is_paid": item.is_paid,
        "profile": {"type": "Team", "name": item.team, "owner": owner.uri}
        if item.team
        else {"type": "User", "name": owner.name, "owner": owner.uri},
        "secret": item.secret,
        "booking_method": "instant",
        "custom_questions": [
            {
                "name": question.name,
                "type": question.type,
                "position": position,
                "enabled": question.enabled,
                "required": question.required,
                "answer_choices": question.choices,
                "include_other": question.include_other,
            }
            for position, question in enumerate(item.questions)
        ],
        "admin_managed": False,
        "locations": item.locations or None,
        "position": item.position,
        "locale": owner.locale,
    }


def event_type_membership(item: EventType, host: User) -> JSON:
    return {
        "uri": f"{API}/event_type_memberships/{item.uuid}-{host.uuid}",
        "event_type": event_type(item),
        "member": member(host),
        "created_at": iso(item.created),
        "updated_at": iso(item.updated),
    }


def schedule(item: Schedule) -> JSON:
    rules: list[JSON] = []
    for rule in item.rules:
        intervals = [{"from": opens, "to": closes} for opens, closes in rule.intervals]
        rules.append({"type": rule.type, rule.type: rule.day, "intervals": intervals})
    return {
        "uri": item.uri,
        "default": item.default,
        "name": item.name,
        "user": item.user.uri,
        "timezone": item.timezone,
        "rules": rules,
    }


def slot(item: Slot, of: EventType) -> JSON:
    start = iso(item.start)
    short = start[:19] + "Z"
    return {
        "status": "available",
        "invitees_remaining": item.invitees_remaining,
        "start_time": start,
        "scheduling_url": f"{of.scheduling_url}/{short}?month={short[:7]}&date={short[:10]}",
    }


def busy_event(item: Event) -> JSON:
    return {
        "type": "calendly",
        "start_time": iso(item.start),
        "end_time": iso(item.end),
        "buffered_start_time": iso(item.start),
        "buffered_end_time": iso(item.end),
        "event": {"uri": item.uri},
    }


def cancellation(item: Cancellation) -> JSON:
    return {
        "canceled_by": item.canceled_by,
        "reason": item.reason,
        "canceler_type": item.canceler_type,
        "created_at": iso(item.created),
    }


def event(item: Event, now: datetime) -> JSON:
    start, end = iso(item.start), iso(item.end)
    rendered: JSON = {
        "uri": item.uri,
        "name": item.name or item.event_type.name,
        "meeting_notes_plain": None,
        "meeting_notes_html": None,
        "status": item.status,
        "start_time": start,
        "end_time": end,
        "event_type": item.event_type.uri,
        "location": _location(item.location, item, now),
        "invitees_counter": {
            "total": len(item.invitees),
            "active": item.active_invitees,
            "limit": item.event_type.limit,
        },
        "created_at": iso(item.created),
        "updated_at": iso(item.updated),
        "event_memberships": [
            {
                "user": host.uri,
                "user_email": host.email,
                "user_name": host.name,
                "buffered_start_time": start,
                "buffered_end_time": end,
            }
            for host in item.hosts
        ],
        "event_guests": [
            {"email": email, "created_at": iso(since), "updated_at": iso(since)} for email, since in item.guests
        ],
        "calendar_event": {"kind": "google", "external_id": item.uuid.lower()},
    }
    if item.cancellation is not None:
        rendered["cancellation"] = cancellation(item.cancellation)
    return rendered


def _location(item: Location | None, of: Event, now: datetime) -> JSON | None:
    if item is None:
        return None
    rendered: JSON = {"type": EVENT_LOCATION.get(item.kind, item.kind)}
    if item.kind not in CONFERENCES:
        rendered["location"] = item.location
        if item.additional_info is not None:
            rendered["additional_info"] = item.additional_info
        return rendered
    ready = now >= of.created + CONFERENCE_SETUP
    rendered["status"] = "pushed" if ready else "processing"
    rendered["join_url"] = item.join_url if ready else None
    if item.kind != "google_conference":
        rendered["data"] = _conference_data(item.kind, of) if ready else None
    return rendered


def _conference_data(kind: str, of: Event) -> JSON:
    if kind == "zoom_conference":
        settings: JSON = {"global_dial_in_numbers": []}
        return {"id": of.uuid, "settings": settings, "extra": {"intl_numbers_url": None}, "password": None}
    if kind == "gotomeeting_conference":
        return {"uniqueMeetingId": of.uuid, "conferenceCallInfo": "United States: +1 202-555-0199"}
    if kind == "microsoft_teams_conference":
        dial: JSON = {"conferenceId": of.uuid[:9], "dialinUrl": None, "tollNumber": "+1 202-555-0198"}
        return {"id": of.uuid, "audioConferencing": dial}
    number = {"label": "US Toll", "callInNumber": "+1 202-555-0197", "tollType": "toll"}
    return {"id": of.uuid, "telephony": {"callInNumbers": [number]}, "password": None}


def invitee(item: Invitee) -> JSON:
    rendered: JSON = {
        "uri": item.uri,
        "email": item.email,
        "name": item.name,
        "first_name": item.first_name,
        "last_name": item.last_name,
        "status": item.status,
        "questions_and_answers": [
            {"question": question, "answer": answer, "position": position}
            for question, answer, position in item.answers
        ],
        "timezone": item.timezone,
        "event": item.event.uri,
        "created_at": iso(item.created),
        "updated_at": iso(item.updated),
        "tracking": item.tracking or dict.fromkeys(TRACKING),
        "text_reminder_number": item.text_reminder_number,
        "rescheduled": item.new_invitee is not None,
        "old_invitee": item.old_invitee.uri if item.old_invitee else None,
        "new_invitee": item.new_invitee.uri if item.new_invitee else None,
        "cancel_url": f"{PAGES}/cancellations/{item.uuid}",
        "reschedule_url": f"{PAGES}/reschedulings/{item.uuid}",
        "routing_form_submission": None,
        "payment": item.payment,
        "no_show": {"uri": item.no_show.uri, "created_at": iso(item.no_show.created)} if item.no_show else None,
        "reconfirmation": None,
        "scheduling_method": item.scheduling_method,
        "invitee_scheduled_by": item.scheduled_by.uri if item.scheduled_by else None,
    }
    if item.cancellation is not None:
        rendered["cancellation"] = cancellation(item.cancellation)
    return rendered


def no_show(item: NoShow) -> JSON:
    return {"uri": item.uri, "invitee": item.invitee.uri, "created_at": iso(item.created)}


def webhook(item: Webhook) -> JSON:
    """The signing key is left out, as Calendly never returns it."""
    return {
        "uri": item.uri,
        "callback_url": item.callback_url,
        "created_at": iso(item.created),
        "updated_at": iso(item.updated),
        "retry_started_at": iso(item.retry_started) if item.retry_started else None,
        "state": item.state,
        "events": item.events,
        "scope": item.scope,
        "organization": item.organization.uri,
        "user": item.user.uri if item.user else None,
        "group": item.group.uri if item.group else None,
        "creator": item.creator.uri,
    }


def payload(item: Invitee | EventType, now: datetime) -> JSON:
    """The payload of a webhook delivery about an invitee (with their event) or an event type."""
    if not isinstance(item, Invitee):
        rendered = event_type(item)
        del rendered["description_html"]
        return rendered
    scheduled = event(item.event, now)
    del scheduled["calendar_event"]
    for membership in scheduled["event_memberships"]:
        for name in ("buffered_start_time", "buffered_end_time"):
            del membership[name]
    return {**invitee(item), "scheduled_event": scheduled}


def delivery(name: str, by: User, payload: JSON, now: datetime) -> JSON:
    """The body of a webhook delivery."""
    return {"event": name, "created_at": iso(now), "created_by": by.uri, "payload": payload}


def connection(item: Connection) -> JSON:
    return {
        "connection_id": item.id,
        "status": item.status,
        "creation_time": iso(item.created),
        "last_updated_time": iso(item.updated),
        "url": f"https://connect.maton.ai/?session_token={item.session_token}",
        "app": item.app,
        "method": "OAUTH2",
        "metadata": {},
    }
