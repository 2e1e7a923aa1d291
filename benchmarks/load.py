"""300 events and 600 invitees at 50 ms latency: the cancel flow on a standing Prefect server, beside bare httpx.

Each way runs in a fresh process. How long it takes is the sandbox's word: from the first request's arrival to the last
answer. So what comes before the first request (Prefect's own start) and after the last answer (artifacts) does not
count there; in what the flow takes beyond the same work without Prefect it does, all from calling it to its return.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from benchmarks.claims import Claim
from benchmarks.jobs import ORGANIZATION
from benchmarks.stack import KEY, measured, prefect_server, sandbox
from prefect_calendly.sandbox.remote import control

EVENTS, CHANGES = 300, 33
LONG_AGO = "2026-01-01T00:00:00Z"
WAYS = ("floor", "client", "flow", "second floor", "second flow")


def load(rounds: int) -> Iterator[Claim]:
    """How long a first load takes, what Prefect adds, and how many requests the first and the second run send."""
    with (
        sandbox(latency_ms=50, gateway_rps=0, rate_limit_per_minute=0) as url,
        prefect_server() as environment,
    ):
        done = [_round(url, number, environment) for number in range(rounds + 1)][1:]  # the first one warms up
    yield from _claims({way: [each[way] for each in done] for way in WAYS}, rounds)


def _round(url: str, number: int, environment: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Do everything once, on the same world."""
    groups = _seed(url)
    blocked = f"nobody{number}.example"  # another policy: the flow knows nothing of the last round
    first = {
        "floor": measured(url, "bare_scan"),
        "client": measured(url, "client_scan"),
        "flow": measured(url, "flow_scan", blocked, environment=environment),
    }
    assert {way["read"] for way in first.values()} == {EVENTS}, first
    changed = datetime.now(UTC).isoformat()
    _change(url, groups)
    second = {
        "second floor": measured(url, "bare_scan", changed),
        "second flow": measured(url, "flow_scan", blocked, "dry run", environment=environment),
    }
    assert {way["read"] for way in second.values()} == {CHANGES}, second
    return first | second


def _seed(url: str) -> list[str]:
    """Make 300 coming events with some 600 invitees, half of them group events; return groups to join."""
    control(url, "POST", "/reset", {"events": 0, "invitees": 0})
    now = datetime.now(UTC)
    owner = {"organization": ORGANIZATION, "status": "active"}
    answer = httpx.get(
        f"{url}/calendly/scheduled_events",
        params={**owner, "min_start_time": now.isoformat(), "count": 100},
        headers={"Authorization": f"Bearer {KEY}"},
    )
    there = len(answer.json()["collection"])  # those that Calendly's documentation shows

    def group(number: int, **when: Any) -> str:
        name = f"Workshop {number}"
        its_type = control(url, "POST", "/event_types", {"name": name, "limit": 10, "kind": "group"})["uri"]
        control(url, "POST", "/events", {"event_type": its_type, "created_at": LONG_AGO, **_people(3), **when})
        return str(its_type)

    groups = [group(number) for number in range(3)]
    for number in range(EVENTS - there - len(groups)):
        start = now + timedelta(hours=200 + 4 * number)
        if number % 2:
            group(number, start_time=start)
        else:
            control(url, "POST", "/events", {"start_time": start, "created_at": LONG_AGO, **_people(1)})
    return groups


def _people(count: int) -> dict[str, Any]:
    return {"invitees": [{"email": f"guest{number}@good.example"} for number in range(count)]}


def _change(url: str, groups: list[str]) -> None:
    """Let 33 things happen: 30 bookings, and somebody joins each of three groups."""
    for _ in range(CHANGES - len(groups)):
        control(url, "POST", "/events", _people(1))
    with httpx.Client(base_url=f"{url}/calendly", headers={"Authorization": f"Bearer {KEY}"}) as http:
        for its_type in groups:
            span = {"start_time": datetime.now(UTC) + timedelta(minutes=5)}
            span["end_time"] = span["start_time"] + timedelta(days=7)
            times = {name: time.isoformat() for name, time in span.items()}
            slots = http.get("/event_type_available_times", params={"event_type": its_type, **times}).json()
            # The slot that is taken in part is the group that is there.
            taken = next(slot for slot in slots["collection"] if slot["invitees_remaining"] < 10)
            person = {"name": "Late", "email": "late@good.example", "timezone": "UTC"}
            body = {"event_type": its_type, "start_time": taken["start_time"], "invitee": person}
            http.post("/invitees", json={**body, "location": {"kind": "zoom_conference"}}).raise_for_status()


def _claims(ways: dict[str, list[dict[str, Any]]], rounds: int) -> Iterator[Claim]:
    def median(way: str, what: str) -> float:
        return statistics.median(each[what] for each in ways[way])

    def ratio(way: str, floor: str) -> float:
        pairs = zip(ways[way], ways[floor], strict=True)
        return statistics.median(mine["stretch"] / its["stretch"] for mine, its in pairs)

    for name, way, floor, bound in (
        ("first load by our client / httpx", "client", "floor", 1.15),
        ("first load by the flow / httpx", "flow", "floor", 1.3),
    ):
        ours, its = median(way, "stretch"), median(floor, "stretch")
        yield Claim(
            name, f"{ours:.2f} s", f"{its:.2f} s", ratio(way, floor), "times", bound, True, f"median of {rounds}"
        )
    pairs = zip(ways["flow"], ways["client"], strict=True)
    beyond = statistics.median(flow["whole"] - client["whole"] for flow, client in pairs)
    flow, client = median("flow", "whole"), median("client", "whole")
    detail = f"from call to return, median of {rounds}"
    yield Claim(
        "flow beyond its work without Prefect", f"{flow:.2f} s", f"{client:.2f} s", beyond, "s", 1, True, detail
    )
    beyond = median("second flow", "stretch") - median("second floor", "stretch")
    flow, its = median("second flow", "stretch"), median("second floor", "stretch")
    yield Claim("second run, 33 changes, beyond httpx", f"{flow:.2f} s", f"{its:.2f} s", beyond, "s", 1, True)
    for name, way, floor in (("first load", "flow", "floor"), ("second run", "second flow", "second floor")):
        most, least = (max(each["requests"] for each in ways[these]) for these in (way, floor))
        yield Claim(f"requests of a {name} beyond httpx's", f"{most}", f"{least}", most - least, "requests", 0, True)
