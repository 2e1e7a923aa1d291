"""Long listings and the way to the first request, each job in a fresh process beside bare httpx or a bare flow."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.claims import Claim
from benchmarks.stack import job, prefect_server, sandbox
from prefect_calendly.sandbox.remote import control

SMALL, LARGE = 10_000, 100_000


def listing(rounds: int) -> Iterator[Claim]:
    """10,000 events some times over, 100,000 once, at 50 ms: through the task in a flow, beside httpx and its dicts.

    Time is the sandbox's word: from the first request's arrival to the last answer. Memory is the most that the process
    has had, beyond what it had after import: with all events in it at once, as tasks return them.
    """
    with prefect_server() as environment:
        for events, repeats in ((SMALL, rounds), (LARGE, 1)):
            with sandbox(events=events, latency_ms=50, gateway_rps=0, rate_limit_per_minute=0) as url:
                yield from _listed(url, events, repeats, environment)


def _listed(url: str, events: int, rounds: int, environment: dict[str, str]) -> Iterator[Claim]:
    names = ("bare_listing", "task_listing")
    done = [tuple(_measured(url, name, environment) for name in names) for _ in range(rounds)]
    assert all(its["events"] == ours["events"] >= events for its, ours in done), done
    ratio = statistics.median(ours["seconds"] / its["seconds"] for its, ours in done)
    its, ours = (statistics.median(pair[index]["seconds"] for pair in done) for index in (0, 1))
    name, detail = f"task listing {events:,} events / httpx", f"median of {rounds}"
    yield Claim(name, f"{ours:.1f} s", f"{its:.1f} s", ratio, "times", 1.3, True, detail)
    least, most = done[0][0]["requests"], done[0][1]["requests"]
    name = f"requests of {events:,} events beyond httpx's"
    yield Claim(name, f"{most}", f"{least}", most - least, "requests", 0, True)
    if events == LARGE:
        least, most = (max(pair[index]["megabytes"] for pair in done) for index in (0, 1))
        name = f"memory of {events:,} events / httpx's dicts"
        yield Claim(name, f"{most:.0f} MB", f"{least:.0f} MB", most / least, "times", 2, True)
        brief = _measured(url, "brief_listing", environment)["megabytes"]
        name, detail = f"memory of {events:,} in brief / httpx's dicts", "as the cancel flow lists"
        yield Claim(name, f"{brief:.0f} MB", f"{least:.0f} MB", brief / least, "times", 0.6, True, detail)


def start(rounds: int) -> Iterator[Claim]:
    """From the start of Python to the first request: the cancel flow, beside a bare flow that sends one by httpx."""
    with prefect_server() as environment, sandbox(events=100, gateway_rps=0, rate_limit_per_minute=0) as url:
        done = []
        for number in range(rounds + 1):
            bare = _measured(url, "bare_flow", environment)["to_first"]
            done.append(
                (bare, _measured(url, "flow_scan", environment, f"nobody{number}.example", "dry run")["to_first"])
            )
    done = done[1:]  # the first round warms up
    beyond = statistics.median(ours - its for its, ours in done)
    its, ours = (f"{statistics.median(pair[index] for pair in done):.2f} s" for index in (0, 1))
    name, detail = "start to first request beyond a bare flow", f"median of {rounds}"
    yield Claim(name, ours, its, beyond, "s", 1, True, detail)


def _measured(url: str, name: str, environment: dict[str, str], *arguments: str) -> dict[str, Any]:
    control(url, "POST", "/stats/reset")
    began = time.time()
    done = job(name, url, *arguments, environment=environment)
    stats = control(url, "GET", "/stats")
    assert stats["by_status"] == {"200": stats["requests"]}, stats
    figures = {"requests": stats["requests"], "seconds": stats["seconds"], "to_first": stats["since"] - began}
    return done | figures
