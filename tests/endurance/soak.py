"""Kill each writing flow with `kill -9` at random points and run it again: is the outcome that of an undisturbed run?

`make soak` runs the flows, each in a process of its own, against a sandbox and a Prefect server with SQLite: first
undisturbed, then many times in a world like that one, and kills them: while the response to a request is held back
(what the request asks for has happened by then), or at some moment of the run. Then the flow runs once more, and what
the sandbox and Prefect's API show is compared with what they showed after the undisturbed runs.
"""

from __future__ import annotations

import argparse
import random
import secrets
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

from deployments.local import own_environment, sandbox_command
from deployments.processes import MARK, contained, free_port
from tests.endurance.running import KEY, FailedError, Processes, say, tail
from tests.endurance.soak_cases import CASES, Case
from tests.endurance.soak_kills import Course, KillPoint, Runner, kill_points
from tests.endurance.soak_world import Listener, PrefectProxy, World

# Long enough that a random moment of a run is likely to be between two requests.
LATENCY_MS: Final = 20


@dataclass
class Soak:
    """A case: its undisturbed runs, and those that are killed."""

    case: Case
    world: World
    runner: Runner

    late: int = 0
    """How many were killed only after their flow had returned."""

    def undisturbed(self) -> Course:
        """Run in two worlds, whose outcomes must not differ; return how the quicker run went."""
        courses, ends = [], []
        for _ in range(2):
            self._begin()
            courses.append(self.runner.run(self.case))
            ends.append(self._end())
        (self.expected, wrong), (again, _) = ends
        if wrong or again != self.expected:
            raise FailedError("; ".join(["undisturbed", *wrong, *_differences(again, self.expected)]))
        return min(courses, key=lambda course: course.seconds)

    def killed(self, point: KillPoint) -> list[str]:
        """Kill a run, and run again; say what is wrong in the end."""
        try:
            self._begin()
            self.late += self.runner.kill(self.case, point)
            found, wrong = self._end()
        except FailedError as error:
            return [str(error)]
        return wrong + _differences(found, self.expected)

    def _begin(self) -> None:
        self.case.set_up(self.world)
        if self.case.runs_before:
            self.runner.run(self.case)
        self.case.before(self.world)
        self.world.sandbox("/stats/reset", {})

    def _end(self) -> tuple[dict[str, Any], list[str]]:
        self.case.meanwhile(self.world)
        self.runner.run(self.case)
        found = self.case.outcome(self.world)
        return found, self.case.violations(self.world, found)


def _started(home: Path, name: str) -> tuple[World, Runner]:
    """Start a sandbox, a Prefect server and the process that runs the flows."""
    ports = {name: free_port() for name in ("sandbox", "prefect")}
    sandbox, prefect = (f"http://127.0.0.1:{port}" for port in ports.values())
    environment = own_environment(
        home / name,
        **{MARK: str(home)},
        PREFECT_SERVER_API_PORT=str(ports["prefect"]),
        # So that a flow need not wait seconds until its events are stored.
        PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL="0.2",
    )
    processes = Processes(home / name)
    limits = ["--gateway-rps", "0", "--rate-limit-per-minute", "0", "--latency-ms", str(LATENCY_MS)]
    of_sandbox = [*sandbox_command(0, KEY, ports["sandbox"]), *limits]
    processes.start("sandbox", of_sandbox, environment, f"{sandbox}/_sandbox/clock")
    processes.start("prefect", ["-m", "prefect", "server", "start"], environment, f"{prefect}/api/health")
    world = World(sandbox, prefect, PrefectProxy(ports["prefect"]), Listener())
    environment["PREFECT_API_URL"] = f"http://127.0.0.1:{world.proxy.port}/api"
    return world, Runner(world, home / name / "flow.log", environment)


def main() -> int:
    """Run the test; return 1 if something is wrong, or could not be done."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="of each flow (default: 50)")
    parser.add_argument("--seed", type=int, help="the same seed kills at the same points (default: another each time)")
    parser.add_argument("--flow", choices=[case.name for case in CASES], action="append", help="only this; repeatable")
    parser.add_argument("--only", type=int, help="only the kill of this number")
    parser.add_argument("--worlds", type=int, default=2, help="sandboxes and Prefect servers at once (default: 2)")
    options = parser.parse_args()
    seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    began = time.monotonic()
    cases = [case() for case in CASES if options.flow is None or case.name in options.flow]
    say(f"Starting {options.worlds} sandboxes and Prefect servers; {options.kills} kills of each flow, seed {seed} …")
    with tempfile.TemporaryDirectory(prefix="calendly-soak-") as folder, contained(home := Path(folder)):
        free = SimpleQueue[tuple[World, Runner]]()

        def soak(case: Case) -> int:
            """Return how many kills of a flow went wrong."""
            world, runner = free.get()
            try:
                return _soak(Soak(case, world, runner), seed, options.kills, options.only)
            except (FailedError, OSError) as error:
                log = tail(runner.log.with_name("prefect.log")) if isinstance(error, OSError) else ""
                say(f"✗ {case.name}, seed {seed}: {error}\n{log}".rstrip())
                return 1
            finally:
                free.put((world, runner))

        pool = ThreadPoolExecutor(options.worlds)
        try:
            for number in range(options.worlds):
                free.put(_started(home, f"world-{number}"))
            failed = sum(pool.map(soak, cases))
        except FailedError as error:
            print(f"soak: {error}", file=sys.stderr)
            return 1
        finally:  # also after Ctrl-C, when some are still working
            pool.shutdown(wait=False, cancel_futures=True)
    print(f"\nDone in {time.monotonic() - began:.0f} s, {failed} failed; nothing is left running.", flush=True)
    return int(failed > 0)


def _soak(soak: Soak, seed: int, kills: int, only: int | None) -> int:
    """Kill one flow that many times; return how often it went wrong."""
    began, failed, name = time.monotonic(), 0, soak.case.name
    course = soak.undisturbed()
    found = list(enumerate(kill_points(random.Random(f"{seed} {name}"), kills, course), 1))
    killed = [(number, point) for number, point in found if only in (None, number)]
    for number, point in killed:
        if wrong := soak.killed(point):
            failed += 1
            again = f"--seed {seed} --kills {kills} --flow '{name}' --only {number}"
            say("\n    ".join([f"✗ {name}, kill {number}: {point}", *wrong, f'again: make soak ARGS="{again}"']))
    held, asked = sum(point.after is None for _, point in killed), len(course.requests)
    say(
        f"{name}: {asked} requests, and {course.to_prefect} to Prefect, in {course.seconds:.1f} s; "
        f"killed {len(killed)} times, {held} while a response was held back, {soak.late} at its very end; {failed} "
        f"failed; {time.monotonic() - began:.0f} s"
    )
    return failed


def _differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Say how an outcome differs from that of the undisturbed runs."""
    return [
        f"{what}: {found[what]!r}, undisturbed {there!r}"
        if not isinstance(there, list)
        else f"{what}: too much: {_without(found[what], there)}, missing: {_without(there, found[what])}"
        for what, there in expected.items()
        if found[what] != there
    ]


def _without(one: list[Any], other: list[Any]) -> list[Any]:
    left = list(one)
    for each in other:
        if each in left:
            left.remove(each)
    return left


if __name__ == "__main__":
    sys.exit(main())
