"""What the sandbox says when asked without our client, counted in another way: by comparing local clock times."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx

from prefect_calendly.sandbox import Sandbox
from tests.digest.examples import API, minutes

ALICE = "AAAAAAAAAAAAAAAA"
ORGANIZATION = f"{API}/organizations/BBBBBBBBBBBBBBBB"

_QUARTER = minutes(15)


def soon(days: int = 2) -> date:
    return datetime.now(UTC).date() + timedelta(days=days)


def uuid_of(resource: dict[str, Any]) -> str:
    return str(resource["uri"]).rpartition("/")[2]


class Calendar:
    """The sandbox's calendars by plain httpx."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._http = httpx.Client(
            base_url=sandbox.gateway_url, headers={"Authorization": f"Bearer {sandbox.api_key}"}, trust_env=False
        )

    def get(self, path: str, **params: Any) -> Any:
        return self._http.get(path, params=params).raise_for_status().json()["collection"]

    def members(self) -> list[dict[str, Any]]:
        return [item["user"] for item in self.get("/organization_memberships", organization=ORGANIZATION, count=100)]

    def event_types(self) -> set[str]:
        return {item["uri"] for item in self.get("/event_types", organization=ORGANIZATION, active="true", count=100)}

    def days(self, uuid: str, first: date, days: int, timezone: str) -> dict[str, dict[str, float]]:
        """A host's days by date: open slots, working hours, and hours booked through Calendly."""
        zone, user = ZoneInfo(timezone), f"{API}/users/{uuid}"
        start = datetime.combine(first, time(), zone).astimezone(UTC)
        end = datetime.combine(first + timedelta(days=days), time(), zone).astimezone(UTC)

        def day_of(moment: datetime) -> str:
            return moment.astimezone(zone).date().isoformat()

        busy = []
        for number in range(-(-days // 6)):
            span = start + timedelta(days=6 * number), min(end, start + timedelta(days=6 * number + 6))
            busy += self.get("/user_busy_times", user=user, start_time=_wire(span[0]), end_time=_wire(span[1]))
        schedules = self.get("/user_availability_schedules", user=user)
        slots: Counter[str] = Counter()
        for event_type in self.get("/event_types", user=user, active="true", count=100):
            found = []
            for half in (start, start + (end - start) / 2):
                window = {"start_time": _wire(half), "end_time": _wire(half + (end - start) / 2)}
                found += self.get("/event_type_available_times", event_type=event_type["uri"], **window)
            for slot in found:
                at = _moment(slot["start_time"])
                length = minutes(event_type["duration"])
                if event_type["pooling_type"] != "round_robin" or _can_take(at, at + length, busy, schedules):
                    slots[day_of(at)] += 1
        working: Counter[str] = Counter()
        default = next(item for item in schedules if item["default"])
        at = start
        while at < end:
            working[day_of(at)] += _works(default, at)
            at += _QUARTER
        booked: set[datetime] = set()
        for item in busy:
            at = _moment(item["start_time"])
            while item["type"] == "calendly" and at < _moment(item["end_time"]):
                booked.add(at)
                at += _QUARTER
        booked_by_day = Counter(map(day_of, booked))
        dates = [(first + timedelta(days=number)).isoformat() for number in range(days)]
        return {
            day: {"open_slots": slots[day], "working_hours": working[day] / 4, "busy_calendly": booked_by_day[day] / 4}
            for day in dates
        }


def _can_take(start: datetime, end: datetime, busy: list[dict[str, Any]], schedules: list[dict[str, Any]]) -> bool:
    if any(_moment(item["start_time"]) < end and _moment(item["end_time"]) > start for item in busy):
        return False
    return any(_works(item, start) and _works(item, end - minutes(1)) for item in schedules)


def _works(rules: dict[str, Any], at: datetime) -> bool:
    local = at.astimezone(ZoneInfo(rules["timezone"]))
    dated = [rule for rule in rules["rules"] if rule.get("date") == local.date().isoformat()]
    weekly = [rule for rule in rules["rules"] if rule.get("wday") == f"{local:%A}".lower()]
    return any(part["from"] <= f"{local:%H:%M}" < part["to"] for rule in dated or weekly for part in rule["intervals"])


def _wire(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
