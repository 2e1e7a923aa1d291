"""Invitees, booking, and no-shows."""

from __future__ import annotations

from prefect_calendly.sandbox import booking, render
from prefect_calendly.sandbox.clock import iso
from prefect_calendly.sandbox.endpoints.access import visible_event, visible_event_type
from prefect_calendly.sandbox.errors import already_exists, invalid, not_found
from prefect_calendly.sandbox.model import NoShow
from prefect_calendly.sandbox.paging import PAGING, sorted_page
from prefect_calendly.sandbox.routing import MISSING, Answer, Call, Router, resource, uuid_in

router = Router()
route = router.add


@route("GET", "/scheduled_events/{uuid}/invitees", query=f"status email sort {PAGING}")
def list_invitees(call: Call) -> Answer:
    event = visible_event(call, call.params["uuid"])
    status, email = call.choice("status", ("active", "canceled")), call.email("email")
    order = call.sort(("created_at",), "created_at:asc")
    rows = [
        item
        for item in event.invitees
        if (status is None or item.status == status) and (email is None or item.email.lower() == email.lower())
    ]
    return sorted_page(call, rows, order, lambda item, _: iso(item.created), lambda item: item.uuid, render.invitee)


@route("GET", "/scheduled_events/{event_uuid}/invitees/{invitee_uuid}")
def get_invitee(call: Call) -> Answer:
    event = visible_event(call, call.params["event_uuid"], "You do not have permission to view this event")
    invitee = call.world.invitees.get(call.params["invitee_uuid"])
    if invitee is None or invitee.event is not event:
        raise not_found()
    return resource(render.invitee(invitee))


# What the bodies of both booking routes have in common.
_COMMON_MEMBERS = "location location.kind location.location questions_and_answers event_guests tracking " + " ".join(
    f"tracking.{name}" for name in render.TRACKING
)


@route(
    "POST",
    "/invitees",
    body="event_type start_time invitee invitee.name invitee.first_name invitee.last_name invitee.email"
    " invitee.timezone invitee.text_reminder_number questions_and_answers.question"
    f" questions_and_answers.answer questions_and_answers.position {_COMMON_MEMBERS}",
    write="booking",
)
def create_invitee(call: Call) -> Answer:
    body = call.members()
    if body.get("event_type") is None:
        raise invalid(("event_type", MISSING))
    event_type = visible_event_type(call, uuid_in(body["event_type"], "event_types", "event_type"))
    return resource(render.invitee(booking.book(call, event_type, body)), 201)


@route(
    "POST",
    "/event_types/{uuid}/invitees",
    body="start_time email name first_name last_name timezone text_reminder_number"
    f" questions_and_answers.question_uuid questions_and_answers.answer {_COMMON_MEMBERS}",
    write="booking",
)
def create_invitee_by_flat_body(call: Call) -> Answer:
    """Book by the flat body of the specification's route, which Calendly itself does not have."""
    event_type = visible_event_type(call, call.params["uuid"])
    body = booking.official_body(event_type, call.members())
    return resource(render.invitee(booking.book(call, event_type, body)), 201)


@route("POST", "/invitee_no_shows", body="invitee", write="no_show")
def create_no_show(call: Call) -> Answer:
    value = call.members().get("invitee")
    if value is None:
        raise invalid(("invitee", MISSING))
    event_uuid, _, uuid = value.rpartition("/invitees/") if isinstance(value, str) else ("", "", "")
    invitee = call.world.invitees.get(uuid)
    event = visible_event(call, uuid_in(event_uuid, "scheduled_events", "invitee"))
    if invitee is None or invitee.event is not event:
        raise not_found()
    if invitee.no_show is not None:
        raise already_exists()
    if event.start > call.world.clock.now():
        raise invalid(("invitee", "event has not started"))
    return resource(render.no_show(call.world.mark_no_show(invitee)), 201)


def _no_show(call: Call) -> NoShow:
    item = call.world.no_shows.get(call.params["uuid"])
    if item is None:
        raise not_found()
    visible_event(call, item.invitee.event.uuid)
    return item


@route("GET", "/invitee_no_shows/{uuid}")
def get_no_show(call: Call) -> Answer:
    return resource(render.no_show(_no_show(call)))


@route("DELETE", "/invitee_no_shows/{uuid}", write="no_show_deleted")
def delete_no_show(call: Call) -> Answer:
    call.world.unmark_no_show(_no_show(call))
    return Answer(204)
