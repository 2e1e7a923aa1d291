"""What is measured, each in a process of its own: `python -m benchmarks.jobs NAME SANDBOX …` prints JSON at the end.

What begins with `bare` is a floor: httpx, and no request too many.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.stack import KEY
from prefect_calendly.invitees import list_invitees_of_events_via
from prefect_calendly.organizations import list_memberships_via
from prefect_calendly.scheduled_events import list_scheduled_events_via
from prefect_calendly.users import get_current_user_via

AT_ONCE = 16
HORIZON = timedelta(days=365)
ORGANIZATION = "https://api.calendly.com/organizations/BBBBBBBBBBBBBBBB"

# Nothing that takes long is imported up here: a floor has no use for Prefect.


async def bare_scan(sandbox: str, since: str = "") -> dict[str, Any]:
    """List the coming events of the organization, and the invitees of those that have changed since then."""
    import httpx

    limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
    headers = {"Authorization": f"Bearer {KEY}"}
    slots = asyncio.Semaphore(AT_ONCE)
    async with httpx.AsyncClient(base_url=f"{sandbox}/calendly", headers=headers, limits=limits) as http:

        async def get(path: str, **parameters: Any) -> Any:
            async with slots:
                return (await http.get(path, params=parameters)).raise_for_status().json()

        async def pages(path: str, **parameters: Any) -> AsyncIterator[Any]:
            while True:
                page = await get(path, **parameters, count=100)
                for item in page["collection"]:
                    yield item
                if not (token := page["pagination"]["next_page_token"]):
                    return
                parameters["page_token"] = token

        # Whose events, and which domains are the organization's own: that is part of the job.
        organization = (await get("/users/me"))["resource"]["current_organization"]
        members = [
            item["user"]["email"] async for item in pages("/organization_memberships", organization=organization)
        ]
        now = datetime.now(UTC)
        times = {"min_start_time": now.isoformat(), "max_start_time": (now + HORIZON).isoformat()}
        listing = pages("/scheduled_events", organization=organization, status="active", **times)
        events = [event async for event in listing]
        changed = [event["uri"].rpartition("/")[2] for event in events if event["updated_at"] >= since]
        lists = await asyncio.gather(
            *(get(f"/scheduled_events/{uuid}/invitees", status="active", count=100) for uuid in changed)
        )
        invitees = sum(len(each["collection"]) for each in lists)
    return {"members": len(members), "events": len(events), "read": len(changed), "invitees": invitees}


async def client_scan(sandbox: str) -> dict[str, Any]:
    """Do the same through our client, and decide as the flow does; without Prefect."""
    from prefect_calendly.screening.decision import Rules, decide
    from prefect_calendly.screening.policy import CancelPolicy

    rules, now = Rules.of(CancelPolicy(blocked_domains=["nobody.example"])), datetime.now(UTC)
    began = time.perf_counter()
    async with _credentials(sandbox).get_client() as client:
        organization = (await get_current_user_via(client)).current_organization
        members = [each.user.email async for each in list_memberships_via(client, organization=organization)]
        listing = list_scheduled_events_via(
            client, organization=organization, status="active", min_start_time=now, max_start_time=now + HORIZON
        )
        events = [event async for event in listing]
        found = await list_invitees_of_events_via(client, events, status="active")
        decisions = [decide(event, its.invitees, rules) for event, its in zip(events, found, strict=True)]
    assert all(decision.action == "keep" for decision in decisions)
    seconds = time.perf_counter() - began
    return {"members": len(members), "events": len(events), "read": len(found), "seconds": seconds}


async def flow_scan(sandbox: str, blocked: str, dry_run: str = "", pace: float = 10_000) -> dict[str, Any]:
    """Do it by the flow. A dry run notes nothing for the next one; the policy is such that nothing is canceled."""
    from flows.cancel_blocked_domains import cancel_blocked_domains
    from prefect_calendly.screening.policy import CancelPolicy

    policy = CancelPolicy(blocked_domains=[blocked], scope="organization", horizon_days=HORIZON.days)
    began = time.perf_counter()
    report = await cancel_blocked_domains(_credentials(sandbox, float(pace)), policy, dry_run=bool(dry_run))
    assert report.events_matched == 0
    return {"events": report.events_checked, "read": report.events_read, "seconds": time.perf_counter() - began}


async def bare_listing(sandbox: str) -> dict[str, Any]:
    """Collect all events of the organization, page by page, as the JSON that they come in."""
    import httpx

    before, events = _megabytes("VmRSS"), []
    parameters: dict[str, Any] = {"organization": ORGANIZATION, "count": 100}
    headers = {"Authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(base_url=f"{sandbox}/calendly", headers=headers) as http:
        while True:
            page = (await http.get("/scheduled_events", params=parameters)).raise_for_status().json()
            events += page["collection"]
            if not (token := page["pagination"]["next_page_token"]):
                break
            parameters["page_token"] = token
    return {"events": len(events), "megabytes": _megabytes("VmHWM") - before}


async def task_listing(sandbox: str) -> dict[str, Any]:
    """Collect them by the task, in a flow."""
    from prefect import flow

    from prefect_calendly.scheduled_events import alist_scheduled_events

    before = _megabytes("VmRSS")

    @flow
    async def listing() -> int:
        return len(await alist_scheduled_events(_credentials(sandbox), organization=ORGANIZATION))

    return {"events": await listing(), "megabytes": _megabytes("VmHWM") - before}


async def brief_listing(sandbox: str) -> dict[str, Any]:
    """Collect them as the cancel flow does, in a flow."""
    from prefect import flow

    from prefect_calendly.screening.listing import list_active_events

    before, now = _megabytes("VmRSS"), datetime.now(UTC)

    @flow
    async def listing() -> int:
        span = {"since": now - HORIZON, "until": now + HORIZON}
        return len(await list_active_events(_credentials(sandbox), organization=ORGANIZATION, **span))

    return {"events": await listing(), "megabytes": _megabytes("VmHWM") - before}


async def flow_polling(sandbox: str) -> dict[str, Any]:
    """Poll them, from where the last run has left its cursor."""
    from flows.poll_bookings import poll_bookings
    from prefect_calendly.bookings.polling import BookingsToPoll

    before = _megabytes("VmRSS")
    report = await poll_bookings(_credentials(sandbox), BookingsToPoll(scope="organization"))
    return {
        "events": report.events_listed,
        "seeded": report.seeded,
        "emitted": sum(report.emitted.values()),
        "seconds": report.seconds,
        "megabytes": _megabytes("VmHWM") - before,
    }


async def bare_flow(sandbox: str) -> dict[str, Any]:
    """Send one request, in a flow."""
    import httpx
    from prefect import flow

    @flow
    async def ask() -> int:
        async with httpx.AsyncClient(headers={"Authorization": f"Bearer {KEY}"}) as http:
            return (await http.get(f"{sandbox}/calendly/users/me")).status_code

    return {"status": await ask()}


def _megabytes(what: str) -> float:
    """What this process has in memory (VmRSS), or has ever had (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) / 1024


async def client_asks(sandbox: str, times: str) -> dict[str, Any]:
    """Send so many requests at the default pace, as one process that has the key to itself."""

    began = time.perf_counter()
    async with _credentials(sandbox, pace=10).get_client() as client:
        await client.all(range(int(times)), lambda _: get_current_user_via(client))
    return {"seconds": time.perf_counter() - began}


async def flow_asks(sandbox: str, times: str) -> dict[str, Any]:
    """Do the same in a flow, which shares the pace with others."""
    from prefect import flow

    return await flow(client_asks)(sandbox, times)


async def make_limit(a_second: str) -> dict[str, Any]:
    """Make the global concurrency limit of the shared pace, as the README says."""
    from prefect import get_client

    from prefect_calendly.shared_pace import SHARED_PACE

    async with get_client() as client:
        await client.upsert_global_concurrency_limit_by_name(SHARED_PACE, 1000, float(a_second))
    return {}


def _credentials(sandbox: str, pace: float = 10_000) -> Any:
    from prefect_calendly import CalendlyCredentials

    return CalendlyCredentials(
        api_key=KEY,
        gateway_url=f"{sandbox}/calendly",
        connections_url=sandbox,
        requests_per_second=pace,
        max_concurrency=AT_ONCE,
    )


JOBS: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
    "bare_scan": bare_scan,
    "client_scan": client_scan,
    "flow_scan": flow_scan,
    "bare_listing": bare_listing,
    "task_listing": task_listing,
    "brief_listing": brief_listing,
    "flow_polling": flow_polling,
    "bare_flow": bare_flow,
    "client_asks": client_asks,
    "flow_asks": flow_asks,
    "make_limit": make_limit,
}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(JOBS[sys.argv[1]](*sys.argv[2:]))))
