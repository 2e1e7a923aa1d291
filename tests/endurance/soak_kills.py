"""When the soak test kills a flow, and how: each flow runs in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.endurance.running import KEY, ROOT, FailedError, tail
from tests.endurance.soak_cases import Case
from tests.endurance.soak_world import HELD_SECONDS, LONGEST_SECONDS, World

LOOK_EVERY_SECONDS: Final = 0.01


@dataclass(frozen=True)
class Course:
    """How an undisturbed run of a flow went."""

    requests: list[float]
    """Seconds from its first request to each of them."""
    posts: int
    """How many of them were a POST."""
    to_prefect: int
    """How many requests it sent to Prefect."""
    seconds: float
    """From its first request until the flow returned."""


@dataclass(frozen=True)
class KillPoint:
    """When a run is killed: some seconds after a request, or while the response to it is held back."""

    kind: str
    """Which requests are counted: `POST`, any `request`, or `request to Prefect`."""
    number: int
    of: int
    after: float | None
    """Seconds after the request; None while its response is held back."""

    def __str__(self) -> str:
        how = "while it waits for the response to" if self.after is None else f"{self.after:.2f} s after"
        return f"killed {how} {self.kind} {self.number} of {self.of}"


def kill_points(draw: random.Random, kills: int, course: Course) -> list[KillPoint]:
    """Return random points, spread over the run, in a random order."""
    # With few kills, only the first kinds occur.
    among = {
        "POST": course.posts,
        "request to Prefect": course.to_prefect,
        "moment": 0,
        "request": len(course.requests),
    }
    kinds = [kind for kind in among if kind != "POST" or course.posts]
    found = []
    for number in range(kills):
        kind, share = kinds[number % len(kinds)], (number + draw.random()) / kills
        if kind == "moment":
            moment = share * course.seconds
            sent = bisect_right(course.requests, moment)
            found.append(KillPoint("request", sent, len(course.requests), moment - course.requests[sent - 1]))
        else:
            found.append(KillPoint(kind, int(share * among[kind]) + 1, among[kind], None))
    draw.shuffle(found)
    return found


class Runner:
    """Runs flows, each in a process of its own, and kills them."""

    def __init__(self, world: World, log: Path, environment: dict[str, str]) -> None:
        self._world, self.log = world, log
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.endurance.soak_flows"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )

    def run(self, case: Case) -> Course:
        """Run a flow undisturbed; return how it went."""
        before, moments = self._requests(), list[float]()
        self._world.proxy.count()
        self._order(case)
        while (line := self._next_line()) is None:
            moments += [time.monotonic()] * (self._requests().total() - before.total() - len(moments))
        returned, to_prefect = time.monotonic(), self._world.proxy.requests
        made = self._requests() - before
        moments += [returned] * (made.total() - len(moments))
        if line != "returned" or (line := self._next_number()) != "0":
            raise FailedError(f"the flow has failed (exit code {line}); its log ends with:\n{tail(self.log)}")
        posts = sum(number for route, number in made.items() if route.startswith("POST "))
        since_first = [moment - moments[0] for moment in moments]
        return Course(since_first, posts, to_prefect, returned - moments[0])

    def kill(self, case: Case, point: KillPoint) -> bool:
        """Run a flow, and kill its process at a point; say whether the flow had returned by then."""
        before, reached, proxy = self._requests().total(), None, self._world.proxy
        to_prefect = point.kind == "request to Prefect"
        proxy.count(hold=point.number if to_prefect else None)
        if point.after is None and not to_prefect:
            fault = {"kind": "latency", "seconds": HELD_SECONDS, "skip": point.number - 1}
            self._world.sandbox("/faults", fault | ({"method": "POST"} if point.kind == "POST" else {}))
        pid = self._order(case)
        while (line := self._next_line()) is None:
            if point.after is None:
                if proxy.held or self._world.sandbox("/stats")["faults"]:
                    break
            elif reached is None:
                reached = time.monotonic() if self._requests().total() - before >= point.number else None
            elif time.monotonic() - reached >= point.after:
                break
        returned = line == "returned"
        if line is None or returned:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            line = self._next_number()
        self._world.sandbox("/faults", method="DELETE")
        if line != str(-signal.SIGKILL) and not (returned and line == "0"):
            raise FailedError(f"the flow has ended before it was killed; its log ends with:\n{tail(self.log)}")
        return returned

    def _requests(self) -> Counter[str]:
        return Counter(self._world.sandbox("/stats")["by_route"])

    def _order(self, case: Case) -> int:
        """Make a process run a flow; return the process ID."""
        sandbox = self._world.sandbox_url
        credentials = {
            "api_key": KEY,
            "gateway_url": f"{sandbox}/calendly",
            "connections_url": sandbox,
            "requests_per_second": 10_000,
        }
        parameters = case.parameters(self._world)
        order = {"flow": case.flow, "credentials": credentials, "parameters": parameters, "log": str(self.log)}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._deadline = time.monotonic() + LONGEST_SECONDS
        return int(self._next_number())

    def _next_line(self) -> str | None:
        """Return the next line of what runs the flows; None if there is none for a moment."""
        assert self._process.stdout is not None
        if select.select([self._process.stdout], [], [], LOOK_EVERY_SECONDS)[0]:
            if not (line := self._process.stdout.readline()):
                raise FailedError("the process that runs the flows has ended")
            return line.decode().strip()
        if time.monotonic() > self._deadline:
            raise FailedError(f"a flow has not ended within {LONGEST_SECONDS} s; its log ends with:\n{tail(self.log)}")
        return None

    def _next_number(self) -> str:
        """Wait for the next line other than `returned`."""
        while (line := self._next_line()) in (None, "returned"):
            pass
        return str(line)
