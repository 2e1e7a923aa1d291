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
from typing import Any

from benchmarks.stack import KEY

AT_ONCE = 16
HORIZON = timedelta(days=365)

# Nothing that takes long is imported up here: a floor has no use for Prefect.


async def bare_scan(sandbox: str, since: str = "") -> dict[str, Any]:
    """List the coming events of the organisation, and the invitees of those that have changed since then."""
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

        # Whose events, and which domains are the organisation's own: that is part of the job.
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
    from flows.cancel_blocked_domains import CancelPolicy, decide
    from prefect_calendly.endpoints import on_client, stream
    from prefect_calendly.invitees import alist_invitees_of_events
    from prefect_calendly.organizations import alist_memberships
    from prefect_calendly.scheduled_events import alist_scheduled_events
    from prefect_calendly.users import aget_current_user

    policy, now = CancelPolicy(blocked_domains=["nobody.example"]), datetime.now(UTC)
    began = time.perf_counter()
    async with _credentials(sandbox).get_client() as client:
        organization = (await on_client(aget_current_user)(client)).current_organization
        members = [each.user.email async for each in stream(alist_memberships)(client, organization=organization)]
        listing = stream(alist_scheduled_events)(
            client, organization=organization, status="active", min_start_time=now, max_start_time=now + HORIZON
        )
        events = [event async for event in listing]
        found = await on_client(alist_invitees_of_events)(client, events, status="active")
        decisions = [decide(event, its.invitees, policy) for event, its in zip(events, found, strict=True)]
    assert all(decision.action == "keep" for decision in decisions)
    seconds = time.perf_counter() - began
    return {"members": len(members), "events": len(events), "read": len(found), "seconds": seconds}


async def flow_scan(sandbox: str, blocked: str, dry_run: str = "") -> dict[str, Any]:
    """Do it by the flow. A dry run notes nothing for the next one; the policy is such that nothing is cancelled."""
    from flows.cancel_blocked_domains import CancelPolicy, cancel_blocked_domains

    policy = CancelPolicy(blocked_domains=[blocked], scope="organization", horizon_days=HORIZON.days)
    began = time.perf_counter()
    report = await cancel_blocked_domains(_credentials(sandbox), policy, dry_run=bool(dry_run))
    assert report.events_matched == 0
    return {"events": report.events_checked, "read": report.events_read, "seconds": time.perf_counter() - began}


def _credentials(sandbox: str) -> Any:
    from prefect_calendly import CalendlyCredentials

    return CalendlyCredentials(
        api_key=KEY,
        gateway_url=f"{sandbox}/calendly",
        connections_url=sandbox,
        requests_per_second=10_000,
        max_concurrency=AT_ONCE,
    )


JOBS: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
    "bare_scan": bare_scan,
    "client_scan": client_scan,
    "flow_scan": flow_scan,
}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(JOBS[sys.argv[1]](*sys.argv[2:]))))
