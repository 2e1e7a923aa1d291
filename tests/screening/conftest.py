"""What the tests of screening share: policies, events and invitees, and the sandbox's world as a policy sees it."""

from datetime import UTC, datetime, timedelta
from typing import Any

from prefect.logging import disable_run_logger

from prefect_calendly import CalendlyCredentials
from prefect_calendly.invitees import Invitee, acreate_invitee
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.scheduled_events import ScheduledEvent, aget_scheduled_event
from prefect_calendly.screening.policy import CancelPolicy
from tests.world import ALICE, World, uuid_of

API = "https://api.calendly.com"
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
BLOCKED = ["blocked.example", "spam-corp.example", "Bücher.Example"]
BAD, WORSE, GOOD = "eve@blocked.example", "bob@mail.blocked.example", "good@fine.example"
CANCELLATION = "/scheduled_events/{uuid}/cancellation"
ONLINE = {"kind": "zoom_conference"}
LONG_AGO = "2026-01-01T00:00:00Z"

_IDN = ("bücher.example", "xn--bcher-kva.example")


def policy_of(*domains: str, **members: Any) -> CancelPolicy:
    return CancelPolicy(**{"blocked_domains": list(domains) or ["blocked.example"], **members})


def event_of(*, guests: list[str] | None = None, limit: int = 1, status: str = "active") -> ScheduledEvent:
    return ScheduledEvent.model_validate(
        {
            "uri": f"{API}/scheduled_events/EVENT",
            "status": status,
            "start_time": NOON,
            "end_time": NOON,
            "created_at": NOON,
            "updated_at": NOON,
            "invitees_counter": {"total": 1, "active": 1, "limit": limit},
            "event_memberships": [{"user": f"{API}/users/NOBODY"}, {"user": ALICE}],
            "event_guests": [{"email": email} for email in guests or ()],
        }
    )


def invitee_of(email: str, status: str = "active") -> Invitee:
    uri = f"{API}/scheduled_events/EVENT"
    values = {"uri": f"{uri}/invitees/I", "email": email, "name": "N", "status": status, "event": uri}
    return Invitee.model_validate({**values, "created_at": NOON, "updated_at": NOON})


# The sandbox's own world


def everything(**members: Any) -> CancelPolicy:
    """The policy that goes with `is_wanted`: the whole organization, as far ahead as the sandbox has events."""
    return policy_of(*BLOCKED, **{"scope": "organization", "horizon_days": 90, **members})


def is_bad(email: str) -> bool:
    return email.lower().endswith(("@blocked.example", "@mail.spam-corp.example", *(f"@{name}" for name in _IDN)))


def is_wanted(event: dict[str, Any]) -> bool:
    """Whether an event of the sandbox's own world is to be canceled, other invitees permitting."""
    active = [item["email"] for item in event["invitees"] if item["status"] == "active"]
    guests = [guest["email"] for guest in event["event_guests"]]
    if not any(map(is_bad, active + guests)):
        return False
    return all(map(is_bad, active)) or event["invitees_counter"]["limit"] == 1


def is_mixed(event: dict[str, Any]) -> bool:
    people = [item["email"] for item in event["invitees"] if item["status"] == "active"]
    people += [guest["email"] for guest in event["event_guests"]]
    return any(map(is_bad, people)) and not is_wanted(event)


def upcoming(calendly: World, **owner: str) -> list[dict[str, Any]]:
    return calendly.events(status="active", min_start_time=datetime.now(UTC).isoformat(), **owner)


def canceled_by_api(sandbox: Sandbox) -> dict[str, dict[str, Any]]:
    return {uuid_of(event): event for event in sandbox.state()["canceled_by_api"]}


def posts(sandbox: Sandbox) -> int:
    return int(sandbox.stats()["by_route"].get(f"POST {CANCELLATION}", 0))


def add_booking(sandbox: Sandbox, *emails: str, days: float = 3, **members: Any) -> str:
    """Add a booking; the URI of its event."""
    start = sandbox.clock() + timedelta(days=days)
    return sandbox.add_event(start, invitees=[{"email": email} for email in emails], **members)


async def join(credentials: CalendlyCredentials, event: str, email: str) -> None:
    """Book a group event that others have booked."""
    with disable_run_logger():
        its = await aget_scheduled_event.fn(credentials, event)
        assert its.event_type
        joined = await acreate_invitee.fn(
            credentials,
            its.event_type,
            start_time=its.start_time,
            name="Late",
            email=email,
            timezone="UTC",
            location=ONLINE,
        )
    assert joined.event == its.uri
