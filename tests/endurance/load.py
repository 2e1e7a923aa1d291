"""A large organization on a real Prefect server: do digest and scan complete, and what do they cost?

`make load-test` seeds a sandbox with 1,000 hosts and 100,000 future events, starts a Prefect server with SQLite, and
runs the organization's digest and its cancel scan, each in a process of its own: a dry run that finds what is blocked,
and a first and a second run of a scan that has nothing to cancel. The gateway does not limit the pace. How long they
would take at the 10 requests a second that Maton allows follows from the number of requests.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from deployments.local import own_environment
from deployments.processes import contained, free_port
from tests.endurance.running import KEY, ROOT, FailedError, Processes, ask, say, until

MOST_MEGABYTES: Final = 500
MOST_TASK_RUNS: Final = 60
PACE: Final = 10
"""Requests a second that Maton allows."""
# A tenth of the sandbox's events are canceled, and a few are in the past.
ACTIVE_SHARE: Final = 0.9
PAST: Final = 50

DIGEST, DRY_RUN, FIRST, SECOND = "digest", "scan, dry run", "scan, first run", "scan, second run"


@dataclass(frozen=True)
class Done:
    """A flow run that has ended."""

    name: str
    report: dict[str, Any]
    sent: int
    """Requests, as the sandbox counted them."""
    megabytes: float
    """Peak memory of its process."""
    seconds: float
    state: str
    task_runs: int
    artifacts: dict[str, int]
    """Sizes in bytes, by key."""


def main() -> int:
    """Run the test; return 1 if something is wrong, or could not be done."""
    parser = argparse.ArgumentParser(prog="make load-test", description=__doc__)
    parser.add_argument("--hosts", type=int, default=1_000, help="(default: 1000)")
    parser.add_argument("--events", type=int, default=100_000, help="future events, at least (default: 100000)")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="calendly-load-") as folder, contained(home := Path(folder)):
        try:
            done = list(_load(home, options.hosts, options.events))
        except FailedError as error:
            print(f"load-test: {error}", file=sys.stderr)
            return 1
    failed = _judged(done, options.hosts, options.events)
    print(f"\nDone in {time.monotonic() - began:.0f} s; nothing is left running.", flush=True)
    return int(failed)


def _load(home: Path, hosts: int, events: int) -> Iterator[Done]:
    port, sandbox_port = free_port(), free_port()
    api, sandbox = f"http://127.0.0.1:{port}/api", f"http://127.0.0.1:{sandbox_port}"
    environment = own_environment(home, PREFECT_API_URL=api, PREFECT_SERVER_API_PORT=str(port), MATON_API_KEY=KEY)
    say(f"Starting a sandbox with {hosts} hosts and {events} future events, and a Prefect server …")
    processes = Processes(home)
    seeded = math.ceil(events / ACTIVE_SHARE) + PAST
    world = ["--hosts", str(hosts), "--events", str(seeded), "--invitees", str(seeded * 6 // 5), "--upcoming"]
    limits = ["--gateway-rps", "0", "--rate-limit-per-minute", "0", "--port", str(sandbox_port)]
    of_sandbox = ["-m", "prefect_calendly.sandbox", f"--api-key={KEY}", *world, *limits]
    processes.start("sandbox", of_sandbox, environment, f"{sandbox}/_sandbox/clock")
    processes.start("prefect", ["-m", "prefect", "server", "start"], environment, f"{api}/health")
    for name in (DIGEST, DRY_RUN, FIRST, SECOND):
        say(f"{name} …")
        yield _done(name, api, sandbox, environment)


def _done(name: str, api: str, sandbox: str, environment: dict[str, str]) -> Done:
    """Run a flow in a process of its own, then ask the sandbox and Prefect about it."""
    ask(f"{sandbox}/_sandbox/stats/reset", {})
    began = time.monotonic()
    command = [sys.executable, "-c", "from tests.endurance.load import run_flow; run_flow()", name, sandbox]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    seconds = time.monotonic() - began
    if ended.returncode:
        raise FailedError(f"{name} has failed:\n{ended.stderr[-5_000:]}")
    told = json.loads(ended.stdout.splitlines()[-1])
    of_run = {"flow_runs": {"id": {"any_": [told["flow_run"]]}}}

    def recorded() -> int | None:
        # Task runs reach the database after their flow run has ended.
        count, open_ = ask(f"{api}/task_runs/count", of_run), {"state": {"type": {"any_": ["PENDING", "RUNNING"]}}}
        return int(count) if count and not ask(f"{api}/task_runs/count", {**of_run, "task_runs": open_}) else None

    task_runs = until("all task runs are recorded", recorded, 120)
    (flow_run,) = ask(f"{api}/flow_runs/filter", of_run)
    artifacts = ask(f"{api}/artifacts/filter", of_run)
    return Done(
        name=name,
        report=told["report"],
        sent=ask(f"{sandbox}/_sandbox/stats")["requests"],
        megabytes=told["megabytes"],
        seconds=seconds,
        state=flow_run["state_type"],
        task_runs=task_runs,
        artifacts={artifact["key"]: len(json.dumps(artifact["data"])) for artifact in artifacts},
    )


def run_flow() -> None:
    """Run one flow in this process; print its report and its peak memory."""
    from prefect import State

    from flows.availability_digest import availability_digest
    from flows.cancel_blocked_domains import cancel_blocked_domains
    from prefect_calendly import CalendlyCredentials
    from prefect_calendly.digest.request import DigestRequest
    from prefect_calendly.screening.policy import CancelPolicy

    name, sandbox = sys.argv[1:]
    credentials = CalendlyCredentials(
        gateway_url=f"{sandbox}/calendly", connections_url=sandbox, requests_per_second=10_000
    )

    async def run() -> State[Any]:
        if name == DIGEST:
            request = DigestRequest(scope="organization", days=7, timezone="Europe/Berlin")
            return await availability_digest(credentials, request, return_state=True)
        blocked = "blocked.example" if name == DRY_RUN else "nobody.example"
        policy = CancelPolicy(blocked_domains=[blocked], scope="organization", horizon_days=90)
        return await cancel_blocked_domains(credentials, policy, dry_run=name == DRY_RUN, return_state=True)

    async def told() -> dict[str, Any]:
        state = await run()
        report = await state.aresult()
        flow_run = state.state_details.flow_run_id
        return {"report": report.model_dump(mode="json"), "flow_run": str(flow_run), "megabytes": _most_megabytes()}

    print(json.dumps(asyncio.run(told())))


def _most_megabytes() -> float:
    """Return the peak memory of this process, without that of the process that it was forked from."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def _judged(done: list[Done], hosts: int, events: int) -> bool:
    """Print the result; return whether something is wrong."""
    print()
    print(f"{'':<18} {'requests':>9} {f'at {PACE}/s':>10} {'here':>7} {'tasks':>6} {'memory':>8}  artifacts")
    for each in done:
        sizes = ", ".join(f"{size / 1000:.0f} kB" for size in sorted(each.artifacts.values(), reverse=True))
        print(
            f"{each.name:<18} {each.sent:>9} {each.sent / PACE / 60:>6.1f} min {each.seconds:>5.0f} s "
            f"{each.task_runs:>6} {each.megabytes:>5.0f} MB  {sizes}"
        )
    print()
    by_name = {each.name: each for each in done}
    digest, dry_run, first, second = (by_name[name] for name in (DIGEST, DRY_RUN, FIRST, SECOND))
    pages = -(-first.report["events_checked"] // 100)
    members = -(-(hosts + 1) // 100)
    checks = [
        ("all have completed", all(each.state == "COMPLETED" for each in done)),
        ("each reports as many requests as the sandbox counted", all(d.sent == d.report["requests"] for d in done)),
        (f"digest of {digest.report['hosts']} hosts, nothing unreadable",
         digest.report["hosts"] == hosts + 1 and not digest.report["unreadable"]),
        (f"{dry_run.report['events_checked']} events checked, {dry_run.report['to_cancel']} to cancel",
         dry_run.report["events_checked"] >= events and dry_run.report["to_cancel"] > 0),
        ("a first run reads each event once, and nothing else",
         first.sent == 1 + members + pages + first.report["events_checked"]),
        (f"a second run reads {second.report['events_read']} of them",
         second.sent == 1 + members + pages + second.report["events_read"] < first.sent),
        (f"less than {MOST_MEGABYTES} MB each", all(each.megabytes < MOST_MEGABYTES for each in done)),
        (f"at most {MOST_TASK_RUNS} task runs each", all(each.task_runs <= MOST_TASK_RUNS for each in done)),
        ("each left its artifacts", all(len(each.artifacts) >= 2 for each in done)),
    ]  # fmt: skip
    for what, well in checks:
        print("✓" if well else "✗", what)
    return not all(well for _, well in checks)


if __name__ == "__main__":
    sys.exit(main())
