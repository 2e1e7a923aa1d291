"""The demo: the three flows on a sandbox gateway, and a check of what they claim (`make demo`).

It has a Prefect server of its own, in a folder of its own, that ends with it. With `--gateway live` the same flows run
against the real gateway, dry-run only.
"""

from __future__ import annotations

import argparse
import asyncio
import atexit
import json
import os
import secrets
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from deployments.local import own_environment, sandbox_command
from deployments.own_server import server_settings
from deployments.processes import free_port, start_watchdog

if TYPE_CHECKING:
    from prefect_calendly import CalendlyCredentials

CALLBACK_URL: Final = "https://hooks.example.com/calendly"
BLOCKED_DOMAINS: Final = ["blocked.example", "spam-corp.example", "bücher.example"]
_LONGEST_START_SECONDS: Final = 300

_started: list[subprocess.Popen[str]] = []


class StartError(Exception):
    """Something that the demo needs did not start; the message says what to do."""


@dataclass
class Step:
    """One flow of the demo: what it claims, and what it left behind."""

    title: str
    decided: str = ""
    changed: str = ""
    requests: int = 0
    seconds: float = 0.0
    error: str | None = None
    artifacts: list[Path] = field(default_factory=list)
    report: Any = None


def main() -> int:
    """Run the demo; return 0 only if all three flows did what they claim."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--gateway", choices=["sandbox", "live"], default="sandbox")
    parser.add_argument("--home", type=Path, default=Path(".demo"), help="folder of the demo's own Prefect")
    parser.add_argument("--events", type=int, default=300, help="scheduled events in the sandbox")
    parser.add_argument("--blocked-domain", action="append", help="for --gateway live; can be repeated")
    parser.add_argument("--sandbox-key", help="API key of the sandbox; a random one by default")
    options = parser.parse_args()
    if options.gateway == "live" and not os.environ.get("MATON_API_KEY"):
        print("GATEWAY=live needs your Maton key: MATON_API_KEY=… make demo GATEWAY=live", file=sys.stderr)
        return 2
    signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGTERM, _stop)
    # Registered before Prefect is imported, so that Prefect's own exit handlers still find the server.
    atexit.register(_end_processes)
    home = options.home.resolve()
    began = time.monotonic()
    try:
        ok = _demo(home, options)
    except StartError as error:
        print(f"make demo: {error}", file=sys.stderr)
        return 1
    _say(f"{'Done' if ok else 'FAILED'} in {time.monotonic() - began:.0f} s.")
    return 0 if ok else 1


def _demo(home: Path, options: argparse.Namespace) -> bool:
    """Start what the demo needs, and run it; whether all went well."""
    api = _use_own_prefect(home)
    start_watchdog(home, with_parent=True)
    if options.gateway == "live":
        _start_server(home, api)
        return asyncio.run(_live(home, options.blocked_domain or ["blocked.example"]))
    key = options.sandbox_key or secrets.token_urlsafe(24)
    _say(f"Starting the sandbox gateway with {options.events} scheduled events …")
    sandbox = _start_sandbox(key, options.events)
    _start_server(home, api)
    return asyncio.run(_on_sandbox(home, key, sandbox))


def _stop(signal_number: int, frame: Any) -> NoReturn:
    """End at once: Prefect's own exit handlers would wait for answers to what was interrupted."""
    print("\n▸ Stopped. Nothing is left running; `make demo` starts afresh.", flush=True)
    _end_processes()
    os._exit(128 + signal_number)


def _end_processes() -> None:
    for process in _started:
        process.terminate()
    for process in _started:
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()


# Starting


def _use_own_prefect(home: Path) -> str:
    """Point Prefect, which is not imported yet, to a home and a server of the demo's own; return the server's API."""
    environment = own_environment(
        home,
        **server_settings(free_port(), secrets.token_hex(16)),
        PREFECT_SERVER_UI_ENABLED="false",
        PREFECT_UI_URL="",  # no links to pages that are not there
        PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL="0.2",
        PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE="200",
        PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE="200",
    )
    os.environ.clear()
    os.environ.update(environment)
    return environment["PREFECT_API_URL"]


def _start_sandbox(key: str, events: int) -> str:
    """Start the sandbox; return its URL."""
    command = [sys.executable, *sandbox_command(events, key)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603  (our own module)
    _started.append(process)
    line = process.stdout.readline() if process.stdout else ""
    if not line.startswith("listening on "):
        raise StartError("the sandbox did not start; see above")
    return line.removeprefix("listening on ").strip()


def _start_server(home: Path, api: str) -> None:
    """Start the Prefect server, and wait until it answers."""
    _say("Starting a Prefect server of the demo's own (the first time this takes some 20 s) …")
    log = home / "server.log"
    command = [sys.executable, "-m", "prefect", "server", "start"]
    with log.open("w") as output:
        # In a session of its own: Ctrl-C is for the demo, which then ends the server.
        process = subprocess.Popen(  # noqa: S603  (our own command)
            command, stdout=output, stderr=output, text=True, start_new_session=True
        )
    _started.append(process)
    deadline = time.monotonic() + _LONGEST_START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"{api}/health", timeout=5).close()  # noqa: S310  (loopback)
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise StartError(f"the Prefect server did not start; see {_shown(log)}")


# Running


async def _on_sandbox(home: Path, key: str, url: str) -> bool:
    from prefect_calendly import CalendlyCredentials

    credentials = CalendlyCredentials(api_key=key, gateway_url=f"{url}/calendly", connections_url=url)
    steps = await _run(credentials, home, BLOCKED_DOMAINS, dry_run=False)
    differences = _compare(steps, _ask(url, "state"), _ask(url, "stats"))
    _print_summary(steps, home)
    print("What the sandbox says happened:")
    for line in differences or ["  the same: every cancellation, subscription and request that the flows claim"]:
        print(line)
    print()
    return not differences and not any(step.error for step in steps)


async def _live(home: Path, blocked_domains: list[str]) -> bool:
    from prefect_calendly import CalendlyCredentials
    from prefect_calendly.check import acheck_credentials

    credentials = CalendlyCredentials()
    _say("Asking the gateway who we are …")
    check = await acheck_credentials(credentials)
    if not check.ok:
        print(f"\n  {check.problem}\n", file=sys.stderr)
        return False
    _say(f"Connected as {check.user_name}; dry-run only: nothing will be changed.")
    steps = await _run(credentials, home, blocked_domains, dry_run=True)
    _print_summary(steps, home)
    return not any(step.error for step in steps)


def _ask(url: str, what: str) -> Any:
    with urllib.request.urlopen(f"{url}/_sandbox/{what}") as answer:  # noqa: S310  (loopback)
        return json.load(answer)


def _say(text: str) -> None:
    print(f"▸ {text}", flush=True)


async def _run(
    credentials: CalendlyCredentials, home: Path, blocked_domains: list[str], *, dry_run: bool
) -> list[Step]:
    """Run the three flows, one after the other; a failure of one does not stop the others."""
    from flows.availability_digest import availability_digest
    from flows.cancel_blocked_domains import cancel_blocked_domains
    from flows.ensure_webhook_subscription import ensure_webhook_subscription
    from prefect_calendly.digest.request import DigestRequest
    from prefect_calendly.screening.policy import CancelPolicy
    from prefect_calendly.subscription.spec import SubscriptionSpec

    policy = CancelPolicy(blocked_domains=blocked_domains, scope="organization", max_cancellations=100)
    request = DigestRequest(scope="organization", timezone="Europe/Berlin")
    subscription = SubscriptionSpec(callback_url=CALLBACK_URL)

    def decided_cancel(report: Any) -> tuple[str, str]:
        return (
            f"of {report.events_checked} upcoming events, {report.to_cancel} to cancel and {report.reported} to report",
            f"{report.canceled} events canceled",
        )

    def decided_digest(report: Any) -> tuple[str, str]:
        return (
            f"{report.hosts} hosts have {report.open_slots} open slots in {report.days} days; "
            f"{report.hosts_without_slots} have none",
            "nothing (it only reads)",
        )

    def decided_webhook(report: Any) -> tuple[str, str]:
        return f"the subscription is {report.outcome}: {report.reason}", f"subscription {report.subscription or 'none'}"

    runs: list[tuple[str, Callable[[], Awaitable[Any]], Callable[[Any], tuple[str, str]]]] = [
        (
            "cancel_blocked_domains",
            lambda: cancel_blocked_domains(credentials, policy, dry_run=dry_run, return_state=True),
            decided_cancel,
        ),
        (
            "availability_digest",
            lambda: availability_digest(credentials, request, return_state=True),
            decided_digest,
        ),
        (
            "ensure_webhook_subscription",
            lambda: ensure_webhook_subscription(credentials, subscription, dry_run=dry_run, return_state=True),
            decided_webhook,
        ),
    ]
    steps = []
    for number, (title, run, decided) in enumerate(runs, start=1):
        _say(f"Flow {number} of {len(runs)}: {title}{' (dry run)' if dry_run else ''} …")
        step = Step(title)
        began = time.monotonic()
        state = await run()
        step.seconds = time.monotonic() - began
        result = await state.aresult(raise_on_failure=False)
        if isinstance(result, BaseException):
            step.error = f"{type(result).__name__}: {result}"
        else:
            step.report = result
            step.requests, step.seconds = result.requests, result.seconds
            step.decided, step.changed = decided(result)
            if dry_run:
                step.changed = "nothing (dry run)"
        step.artifacts = await _save_artifacts(state.state_details.flow_run_id, home / "artifacts", title)
        steps.append(step)
    return steps


async def _save_artifacts(flow_run_id: Any, folder: Path, title: str) -> list[Path]:
    """Write what a flow run left in Prefect to files too, so that it can be read without a server."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
    from prefect.client.schemas.sorting import ArtifactSort

    folder.mkdir(parents=True, exist_ok=True)
    written: dict[str, Path] = {}
    async with get_client() as client:
        artifacts = await client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id])),
            sort=ArtifactSort.UPDATED_DESC,
        )
    for artifact in reversed(artifacts):  # the newest version of a key is written last
        table = artifact.type == "table"
        name = f"{artifact.key or title}.{'json' if table else 'md'}"
        text = str(artifact.data)
        if table:
            text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
        written[name] = folder / name
        written[name].write_text(text + "\n")
    return list(written.values())


def _compare(steps: list[Step], state: dict[str, Any], stats: dict[str, Any]) -> list[str]:
    """Hold what the flows claim against what the sandbox says happened; return the differences."""
    reports = {step.title: step.report for step in steps if step.report is not None}
    differences = []

    def compare(what: str, claimed: Any, happened: Any) -> None:
        if claimed != happened:
            differences.append(f"  {what}: the flows claim {claimed}, the sandbox says {happened}")

    if canceled := reports.get("cancel_blocked_domains"):
        compare("canceled events", sorted(canceled.canceled_events), sorted(_uuids(state["canceled_by_api"])))
    if webhook := reports.get("ensure_webhook_subscription"):
        ours = [hook for hook in state["webhook_subscription_list"] if hook["callback_url"] == CALLBACK_URL]
        compare("subscriptions of the demo's URL", [webhook.subscription], _uuids(ours))
        compare("their states", ["active"], [hook["state"] for hook in ours])
    compare("bookings", [], state["bookings"])
    compare("requests", sum(step.requests for step in steps), stats["requests"])
    compare("parameters that Calendly does not know", [], stats["unknown_parameters"])
    return differences


def _uuids(items: list[dict[str, Any]]) -> list[str]:
    return [item["uri"].rpartition("/")[2] for item in items]


def _print_summary(steps: list[Step], home: Path) -> None:
    print()
    for step in steps:
        print(f"{step.title}")
        if step.error:
            print(f"  failed     {step.error}")
        else:
            print(f"  decided    {step.decided}")
            print(f"  changed    {step.changed}")
            print(f"  requests   {step.requests} to the gateway")
        print(f"  seconds    {step.seconds:.1f}")
        for path in step.artifacts:
            print(f"  artifact   {_shown(path)}")
        print()
    server, password = Path(sys.executable).parent / "prefect", f"admin:{secrets.token_hex(8)}"
    print("To look at the runs and artifacts in Prefect's own pages, start its server:")
    print(f"  DO_NOT_TRACK=1 PREFECT_HOME={shlex.quote(str(home / 'prefect'))} \\")
    print(f"  PREFECT_SERVER_API_AUTH_STRING={password} {_shown(server)} server start")
    print(f"and open http://127.0.0.1:4200/v2/artifacts, which asks for {password}")
    print()


def _shown(path: Path) -> str:
    """A path as a person would type it from here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


if __name__ == "__main__":
    sys.exit(main())
