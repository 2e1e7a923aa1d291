"""The limits of gateway and Calendly: how much of them is used, by one process and by two, and that none is passed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from benchmarks.claims import Claim
from benchmarks.stack import job, prefect_server, sandbox
from prefect_calendly.sandbox.remote import control

# The order's, and one that a slower plan may have.
A_SECOND, A_MINUTE = 10, 50


def pace(requests: int) -> Iterator[Claim]:
    """So many requests of one process, then of two flow runs at once, at 10 a second; and a load at 50 a minute."""
    with sandbox(events=1, gateway_rps=A_SECOND, rate_limit_per_minute=0, latency_ms=50) as url:
        job("client_asks", url, str(requests))
        yield _share("share of 10 requests/s, one process", url, 0.95)
    with prefect_server() as environment:
        with sandbox(events=1, gateway_rps=A_SECOND, rate_limit_per_minute=0, latency_ms=50) as url:
            job("make_limit", str(A_SECOND), environment=environment)
            done = _at_once(2, "flow_asks", url, str(requests), environment=environment)
            seconds = sorted(each["seconds"] for each in done)
            yield _share("share of 10 requests/s, two runs at once", url, 0.85)
            name, (faster, slower) = "the slower of two equal runs / the faster", seconds
            yield Claim(name, f"{slower:.1f} s", f"{faster:.1f} s", slower / faster, "times", 1.25, True)
        yield from _slow_plan(environment)


def _slow_plan(environment: dict[str, str]) -> Iterator[Claim]:
    """A flow's first load of 100 events, where Calendly allows 50 requests a minute and tells no `Retry-After`."""
    with sandbox(events=0, invitees=0, gateway_rps=A_SECOND, rate_limit_per_minute=A_MINUTE, latency_ms=50) as url:
        for _ in range(100):
            control(url, "POST", "/events", {"invitees": [{"email": "guest@good.example"}]})
        control(url, "POST", "/stats/reset")
        done = job("flow_scan", url, "nobody.example", "dry run", "10", environment=environment)
        stats = control(url, "GET", "/stats")
    assert done["read"] == done["events"] >= 100, done
    assert stats["by_status"] == {"200": stats["requests"]}, stats
    least = (stats["requests"] - 1) // A_MINUTE * 60
    name, detail = "100 events at 50 requests/min, a flow", f"{stats['requests']} requests"
    yield Claim(name, f"{stats['seconds']:.1f} s", f"{least} s", stats["seconds"] / least, "times", 1.05, True, detail)


def _share(name: str, url: str, bound: float) -> Claim:
    stats = control(url, "GET", "/stats")
    share = (stats["requests"] - 1) / stats["seconds"] / A_SECOND  # the first one goes at once
    refused = stats["by_status"].get("429", 0)
    detail = f"{stats['requests']} in {stats['seconds']:.1f} s, {refused} answered 429"
    share = 0.0 if refused else share
    return Claim(name, f"{A_SECOND * share:.2f} /s", f"{A_SECOND} /s", share, "times", bound, False, detail)


def _at_once(times: int, name: str, *arguments: str, environment: dict[str, str]) -> list[dict[str, Any]]:
    """Run a job in several processes at the same time."""
    done: list[dict[str, Any]] = []

    def run() -> None:
        done.append(job(name, *arguments, environment=environment))

    threads = [threading.Thread(target=run) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == times
    return done
