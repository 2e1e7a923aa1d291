"""Booking a slot: all that Calendly checks, and the invitee and event that are made."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from prefect_calendly.sandbox.errors import denied, invalid
from prefect_calendly.sandbox.factories import join_url_of
from prefect_calendly.sandbox.model import Event, EventType, Invitee, Location, Question, User
from prefect_calendly.sandbox.render import EVENT_LOCATION, TRACKING
from prefect_calendly.sandbox.routing import MISSING, Call, email_in, time_in
from prefect_calendly.sandbox.slots import Slot, available

JSON = dict[str, Any]
MOST_GUESTS = 10
# The kinds of locations for which the request gives the text.
TEXT_REQUIRED = ("physical", "outbound_call", "ask_invitee", "custom")
_KIND_OF_TYPE = {name: kind for kind, name in EVENT_LOCATION.items()}


def official_body(event_type: EventType, flat: JSON) -> JSON:
    """Turn the flat body of the specification's route into the body of `POST /invitees`."""
    personal = ("email", "name", "first_name", "last_name", "timezone", "text_reminder_number")
    body = {name: value for name, value in flat.items() if name not in personal}
    body["invitee"] = {name: flat[name] for name in personal if name in flat}
    location = flat.get("location")
    if isinstance(location, dict) and isinstance(location.get("kind"), str):
        body["location"] = {**location, "kind": _KIND_OF_TYPE.get(location["kind"], location["kind"])}
    answers = flat.get("questions_and_answers")
    if isinstance(answers, list):
        positions = {question.uuid: n for n, question in enumerate(event_type.questions)}
        body["questions_and_answers"] = translated = []
        for number, item in enumerate(answers):
            uuid = item.get("question_uuid") if isinstance(item, dict) else None
            if not isinstance(uuid, str) or uuid not in positions:
                raise invalid((f"questions_and_answers[{number}].question_uuid", "invalid"))
            question = event_type.questions[positions[uuid]].name
            translated.append({"question": question, "answer": item.get("answer"), "position": positions[uuid]})
    return body


def book(call: Call, event_type: EventType, body: JSON) -> Invitee:
    """Book by the body of `POST /invitees`, or refuse as Calendly does."""
    if call.caller.organization.plan == "basic":
        raise denied(
            "The Scheduling API is only available on paid Calendly plans. Upgrade your plan to access this feature."
        )
    if body.get("start_time") is None:
        raise invalid(("start_time", MISSING))
    start = time_in(body["start_time"], "start_time")
    person = _person(body.get("invitee"))
    guests = _guests(body.get("event_guests"))
    tracking = _tracking(body.get("tracking"))
    location = _location(event_type, body.get("location"))
    answers = _answers(event_type.questions, body.get("questions_and_answers"))
    if not event_type.active:
        raise invalid(("event_type", "invalid"))
    now = call.world.clock.now()
    if start <= now:
        raise invalid(("start_time", "start_time must be in the future"))
    slot = _slot(call, event_type, start)
    event = _event(call, event_type, slot, location, now)
    event.guests += [(email, now) for email in guests]
    first, last = person.get("first_name"), person.get("last_name")
    invitee = Invitee(
        call.world.uuid(),
        event,
        person["email"],
        person.get("name") or " ".join(part for part in (first, last) if part),
        person["timezone"],
        now,
        now,
        first_name=first,
        last_name=last,
        answers=answers,
        tracking=tracking,
        text_reminder_number=person.get("text_reminder_number"),
        scheduling_method="api",
        scheduled_by=call.caller,
    )
    call.world.add_invitee(invitee)
    call.world.bookings.append(invitee)
    return invitee


def _person(value: Any) -> JSON:
    if value is None:
        raise invalid(("invitee", MISSING))
    if not isinstance(value, dict):
        raise invalid(("invitee", "invalid"))
    missing = [(f"invitee.{name}", MISSING) for name in ("email", "timezone") if not value.get(name)]
    if not value.get("name") and not value.get("first_name"):
        missing.append(("invitee.name", MISSING))
    if missing:
        raise invalid(*missing)
    for name in ("name", "first_name", "last_name", "text_reminder_number"):
        if not isinstance(value.get(name), str | None):
            raise invalid((f"invitee.{name}", "invalid"))
    email_in(value["email"], "invitee.email")
    try:
        ZoneInfo(value["timezone"])
    except (KeyError, OSError, TypeError, ValueError):
        raise invalid(("invitee.timezone", "invalid")) from None
    return value


def _guests(value: Any) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise invalid(("event_guests", "invalid"))
    if len(value) > MOST_GUESTS:
        raise invalid(("event_guests", f"must have at most {MOST_GUESTS} items"))
    return [email_in(email, f"event_guests[{number}]") for number, email in enumerate(value)]


def _tracking(value: Any) -> dict[str, str | None] | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise invalid(("tracking", "invalid"))
    missing = [(f"tracking.{name}", MISSING) for name in TRACKING if name not in value]
    if missing:
        raise invalid(*missing)
    return {name: value[name] for name in TRACKING}


def _location(event_type: EventType, value: Any) -> Location | None:
    refusal = invalid(
        (
            "event.location_configuration.location",
            "invalid location choice",
            "invalid_location_choice",
        ),
        message="Specified location kind is not configured for this event type.",
    )
    if event_type.pooling == "round_robin" or not event_type.locations:
        # The host is not known yet, and neither is the location.
        if value is not None:
            raise refusal
        return None
    if value is None:
        raise invalid(("location", MISSING))
    if not isinstance(value, dict):
        raise invalid(("location", "invalid"))
    kind, text = value.get("kind"), value.get("location")
    if kind is None:
        raise invalid(("location.kind", MISSING))
    offered = [item for item in event_type.locations if item["kind"] == kind]
    if not offered:
        raise refusal
    if kind in TEXT_REQUIRED:
        if not text:
            raise invalid(("location.location", MISSING))
        if not isinstance(text, str):
            raise invalid(("location.location", "invalid"))
        if kind in ("physical", "custom") and all(item.get("location") != text for item in offered):
            raise refusal
    else:
        text = offered[0].get("phone_number")
    return Location(kind, text, offered[0].get("additional_info"))


def _answers(questions: list[Question], value: Any) -> tuple[tuple[str, str, int], ...]:
    """The answers: each names its question by the exact text, and all required questions are answered."""
    if value is None:
        value = []
    if not isinstance(value, list):
        raise invalid(("questions_and_answers", "invalid"))
    by_name = {question.name: question for question in questions if question.enabled}
    answers: list[tuple[str, str, int]] = []
    for number, item in enumerate(value):
        path = f"questions_and_answers[{number}]"
        if not isinstance(item, dict):
            raise invalid((path, "invalid"))
        missing = [(f"{path}.{name}", MISSING) for name in ("question", "answer", "position") if item.get(name) is None]
        if missing:
            raise invalid(*missing)
        question = by_name.get(item["question"]) if isinstance(item["question"], str) else None
        if question is None:
            raise invalid((f"{path}.question", "invalid"))
        answer, position = item["answer"], item["position"]
        free_text = question.include_other or question.type != "single_select"
        if not isinstance(answer, str) or not (free_text or answer in question.choices):
            raise invalid((f"{path}.answer", "invalid"))
        if not isinstance(position, int) or isinstance(position, bool):
            raise invalid((f"{path}.position", "invalid"))
        answers.append((question.name, answer, position))
    answered = {question for question, answer, _ in answers if answer.strip()}
    for number, question in enumerate(questions):
        if question.required and question.enabled and question.name not in answered:
            raise invalid((f"questions_and_answers[{number}].question", MISSING))
    return tuple(answers)


def _slot(call: Call, event_type: EventType, start: datetime) -> Slot:
    for slot in available(call.world, event_type, start, start + timedelta(seconds=1)):
        if slot.start == start:
            return slot
    raise invalid(("event.start_time", "That start time has been filled", "already_filled"))


def _event(call: Call, event_type: EventType, slot: Slot, location: Location | None, now: datetime) -> Event:
    """The event of the booking: the group event at that time if there is one, or a new one."""
    world = call.world
    hosts = slot.hosts
    if event_type.kind == "group":
        end = slot.start + timedelta(minutes=event_type.duration)
        for event in world.events_between(hosts[0], slot.start, end):
            if event.event_type is event_type and event.start == slot.start:
                return event
    if event_type.pooling == "round_robin":
        hosts = (min(hosts, key=lambda host: _load(call, host, now)),)
    uuid = world.uuid()
    if location is not None:
        location.join_url = join_url_of(location.kind, uuid)
    end = slot.start + timedelta(minutes=event_type.duration)
    return world.add_event(Event(uuid, event_type, hosts, slot.start, end, now, now, location, source="api"))


def _load(call: Call, host: User, now: datetime) -> tuple[int, str]:
    """What round robin goes by: the host with the fewest events ahead is booked."""
    ahead = call.world.events_between(host, now, now + timedelta(days=60))
    return len(ahead), host.uuid
