"""How long it takes until a booking is canceled, with a worker and with a served deployment: `make latency-test`.

It starts `make up`, books from a blocked domain in its sandbox, one booking at a time, and waits until the sandbox
shows it as canceled: signed webhook → receiver → Prefect event → trigger → flow run → cancellation.
"""

from __future__ import annotations

import argparse
import json
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from deployments.local import own_environment
from deployments.processes import contained
from tests.endurance.running import ROOT, FailedError, ask, until


def main() -> int:
    """Run the test; return 1 if it cannot be done."""
    parser = argparse.ArgumentParser(prog="make latency-test", description=__doc__)
    parser.add_argument("--bookings", type=int, default=20, help="of each kind (default: 20)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="calendly-latency-") as folder, contained(home := Path(folder) / "up"):
        try:
            with _up(home) as stack:
                _measured("process worker", stack, options.bookings)
                with _served(home, stack):
                    _measured("served deployment", stack, options.bookings)
        except FailedError as error:
            print(f"latency-test: {error}", file=sys.stderr)
            return 1
    return 0


@contextmanager
def _up(home: Path) -> Iterator[dict[str, str]]:
    """Run `make up`; yield the addresses of everything."""
    command = [sys.executable, "-m", "deployments.up", "--home", str(home), "--events", "60", "--no-schedules"]
    home.mkdir(parents=True)
    log = home.with_name("log")
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
    try:
        until("all is up", lambda: (home / "up.json").exists() or process.poll() is not None)
        if process.poll() is not None:
            raise FailedError(log.read_text().splitlines()[-1])
        yield json.loads((home / "up.json").read_text())
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)


@contextmanager
def _served(home: Path, stack: dict[str, str]) -> Iterator[None]:
    """Serve the deployments from one process instead of the work pool."""
    environment = own_environment(home, PREFECT_API_URL=stack["api_url"], PREFECT_API_AUTH_STRING=stack["auth_string"])
    # Otherwise Prefect would keep the work pool of a deployment that exists.
    delete = [sys.executable, "-m", "prefect", "--no-prompt", "deployment", "delete", "--all"]
    subprocess.run(delete, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, check=True)
    with home.with_name("serve.log").open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "deployments.serve"], cwd=ROOT, env=environment, stdout=output, stderr=output
        )
    user, _, password = stack["auth_string"].partition(":")
    try:
        with httpx.Client(base_url=stack["api_url"], auth=(user, password), trust_env=False) as http:
            deployment = "/deployments/name/screen-booking/screen-booking"
            until("the deployments are served", lambda: http.get(deployment).is_success, 60)
        time.sleep(5)  # until its triggers exist and it polls for runs
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


def _measured(how: str, stack: dict[str, str], bookings: int) -> None:
    seconds = [_one(stack) for _ in range(bookings + 1)][1:]  # without the first one, which warms up
    low, high = min(seconds), max(seconds)
    print(f"{how:<18} {statistics.median(seconds):5.1f} s median, {low:.1f} to {high:.1f} s, of {bookings}", flush=True)


def _one(stack: dict[str, str]) -> float:
    person = {"email": f"{secrets.token_hex(4)}@blocked.example"}
    began = time.monotonic()
    booked = ask(f"{stack['sandbox_url']}/_sandbox/events", {"invitees": [person]})["uri"]
    event = f"{stack['sandbox_url']}/calendly/scheduled_events/{booked.rpartition('/')[2]}"
    key = stack["sandbox_key"]
    until("a booking is canceled", lambda: ask(event, key=key)["resource"]["status"] == "canceled", 120)
    return time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main())
