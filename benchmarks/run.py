"""What we claim about speed, measured: each claim a ratio of two things done side by side in this run.

`make bench` prints one line per claim and ends with status 1 if one is not met; ARGS='webhooks --rounds 3' runs one
group of them. The gateway is the sandbox, in a process of its own; Prefect, where there is one, its own server with
SQLite.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version

import psutil

from benchmarks.claims import Claim, table
from benchmarks.limits import pace
from benchmarks.listing import listing, start
from benchmarks.load import load
from benchmarks.polling import polling
from benchmarks.scanning import scanning
from benchmarks.stack import KEY, sandbox
from benchmarks.webhooks import webhooks
from prefect_calendly.invitees import list_invitees_via
from prefect_calendly.scheduled_events import get_scheduled_event_via, list_scheduled_events_via


async def _uuids(url: str, wanted: int) -> list[str]:
    from prefect_calendly import CalendlyClient

    async with CalendlyClient(KEY, gateway_url=f"{url}/calendly", requests_per_second=10_000) as client:
        listing = list_scheduled_events_via(client, organization="BBBBBBBBBBBBBBBB", limit=wanted)
        return [event.uri.rpartition("/")[2] async for event in listing]


def client_against_httpx(rounds: int) -> Claim:
    """300 events and 300 invitee lists at 50 ms latency: our client against bare httpx, 16 requests at once."""
    import httpx

    from prefect_calendly import CalendlyClient

    async def bare(base: str, uuids: list[str]) -> None:
        limits = httpx.Limits(max_connections=16, max_keepalive_connections=16)
        headers = {"Authorization": f"Bearer {KEY}"}
        slots = asyncio.Semaphore(16)
        async with httpx.AsyncClient(base_url=base, headers=headers, limits=limits) as http:

            async def get(path: str) -> None:
                async with slots:
                    (await http.get(path)).raise_for_status().json()

            paths = [f"/scheduled_events/{uuid}{what}" for what in ("", "/invitees?count=100") for uuid in uuids]
            await asyncio.gather(*map(get, paths))

    async def ours(base: str, uuids: list[str]) -> None:
        async with CalendlyClient(KEY, gateway_url=base, requests_per_second=10_000, max_concurrency=16) as client:

            async def invitees(uuid: str) -> None:
                _ = [invitee async for invitee in list_invitees_via(client, uuid)]

            async def event(uuid: str) -> None:
                await get_scheduled_event_via(client, uuid)

            calls = [(call, uuid) for call in (event, invitees) for uuid in uuids]
            await client.all(calls, lambda pair: pair[0](pair[1]))

    ratios, seconds = [], []
    with sandbox(events=300, invitees=300, latency_ms=50, gateway_rps=0, rate_limit_per_minute=0) as url:
        uuids = asyncio.run(_uuids(url, 300))
        assert len(uuids) == 300
        for _ in range(rounds + 1):
            taken = [_timed(lambda work=work: asyncio.run(work(f"{url}/calendly", uuids))) for work in (bare, ours)]
            ratios.append(taken[1] / taken[0])
            seconds.append(taken)
    ratios, seconds = ratios[1:], seconds[1:]  # the first round warms up
    floor, mine = (statistics.median(pair[index] for pair in seconds) for index in (0, 1))
    name, detail = "client / httpx, 600 requests at 50 ms", f"median of {rounds}"
    return Claim(name, f"{mine:.2f} s", f"{floor:.2f} s", statistics.median(ratios), "times", 1.15, True, detail)


def memory() -> Claim:
    """Listing 100,000 events as a stream: the most memory in use (sampled once a page) beyond that after import."""
    code = f"""
import asyncio, resource, sys
from pathlib import Path
from prefect_calendly import CalendlyClient
from prefect_calendly.scheduled_events import list_scheduled_events_via

def in_use():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1024**2

async def main():
    before = most = in_use()
    count = 0
    async with CalendlyClient({KEY!r}, gateway_url=sys.argv[1] + "/calendly", requests_per_second=10_000) as client:
        async for event in list_scheduled_events_via(client, organization="BBBBBBBBBBBBBBBB"):
            count += 1
            if count % 100 == 0:
                most = max(most, in_use())
    print(count, most - before)

asyncio.run(main())
"""
    with sandbox(events=100_000, gateway_rps=0, rate_limit_per_minute=0) as url:
        began = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code, url], capture_output=True, text=True, check=True)
        taken = time.perf_counter() - began
    count, growth = done.stdout.split()
    assert int(count) >= 100_000, count
    name, detail = "memory growth, 100,000 events streamed", f"{count} in {taken:.0f} s"
    return Claim(name, f"{float(growth):.1f} MB", "0 MB", float(growth), "MB", 50, True, detail)


def import_cost(rounds: int) -> Claim:
    """`import prefect_calendly` against `import prefect`, each in a fresh process."""
    seconds = []
    for _ in range(rounds + 1):
        taken = [
            _timed(lambda module=module: subprocess.run([sys.executable, "-c", f"import {module}"], check=True))
            for module in ("prefect", "prefect_calendly")
        ]
        seconds.append(taken)
    seconds = seconds[1:]
    beyond = statistics.median(ours - its for its, ours in seconds)
    its, ours = (f"{statistics.median(pair[index] for pair in seconds):.2f} s" for index in (0, 1))
    return Claim("import beyond import prefect", ours, its, beyond, "s", 0.25, True, f"median of {rounds}")


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


GROUPS: dict[str, Callable[[argparse.Namespace], Iterable[Claim]]] = {
    "load": lambda options: load(options.rounds),
    "listing": lambda options: listing(options.rounds),
    "polling": lambda options: polling(),
    "scanning": lambda options: scanning(),
    "start": lambda options: start(options.rounds),
    "client": lambda options: [client_against_httpx(options.rounds)],
    "pace": lambda options: pace(200),
    "memory": lambda options: [memory()],
    "import": lambda options: [import_cost(options.rounds)],
    "webhooks": lambda options: webhooks(options.rounds, options.deliveries),
}


def main() -> int:
    """Run all claims, or some groups of them; print one line each."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="group", help=f"of {', '.join(GROUPS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="repeats of each comparison (default: 5)")
    parser.add_argument("--deliveries", type=int, default=100_000, help="through which memory stays flat")
    options = parser.parse_args()
    if unknown := set(options.groups) - set(GROUPS):
        parser.error(f"there is no {', '.join(sorted(unknown))}; give some of {', '.join(GROUPS)}")
    claims = []
    for name in options.groups or GROUPS:
        for claim in GROUPS[name](options):
            print(claim, flush=True)
            claims.append(claim)
    print(f"\n{table(claims)}\n\n{machine()}")
    return 0 if all(claim.met for claim in claims) else 1


def machine() -> str:
    """Return what it was measured on."""
    memory = psutil.virtual_memory().total / 1024**3
    versions = ", ".join(f"{name} {version(name)}" for name in ("prefect", "httpx", "pydantic"))
    return (
        f"{os.cpu_count()} CPUs ({platform.machine()}), {memory:.0f} GB; Python {platform.python_version()}, {versions}"
    )


if __name__ == "__main__":
    sys.exit(main())
