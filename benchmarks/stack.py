"""What the benchmarks run on, each in a process of its own: sandbox gateway, Prefect server, and the jobs."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deployments.local import own_environment
from deployments.processes import contained, free_port
from prefect_calendly.sandbox.remote import control
from tests.endurance.running import Processes

KEY = "sandbox-key"
ROOT = Path(__file__).parent.parent


@contextlib.contextmanager
def sandbox(**options: object) -> Iterator[str]:
    """Run a sandbox gateway in a process of its own; yield its URL."""
    arguments = [
        f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}") for name, value in options.items()
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "prefect_calendly.sandbox", f"--api-key={KEY}", *arguments],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().removeprefix("listening on ").strip()
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def prefect_server() -> Iterator[dict[str, str]]:
    """Run a Prefect server with SQLite and a home of its own; yield the environment for processes that use it."""
    with tempfile.TemporaryDirectory(prefix="calendly-bench-") as folder, contained(home := Path(folder)):
        port = free_port()
        url = f"http://127.0.0.1:{port}/api"
        environment = own_environment(home, PREFECT_API_URL=url, PREFECT_SERVER_API_PORT=str(port))
        Processes(home).start("prefect", ["-m", "prefect", "server", "start"], environment, f"{url}/health")
        yield environment


def job(name: str, *arguments: str, environment: dict[str, str] | None = None) -> dict[str, Any]:
    """Run one of `benchmarks.jobs` in a fresh process, as a worker would; return what it says."""
    command = [sys.executable, "-m", "benchmarks.jobs", name, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name} has failed:\n{done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measured(url: str, name: str, *arguments: str, environment: dict[str, str] | None = None) -> dict[str, Any]:
    """Run a job against a sandbox; return what it says, and how many requests it has sent in how many seconds."""
    control(url, "POST", "/stats/reset")
    done = job(name, url, *arguments, environment=environment)
    stats = control(url, "GET", "/stats")
    assert stats["by_status"] == {"200": stats["requests"]}, stats
    return done | {"requests": stats["requests"], "stretch": stats["seconds"], "whole": done.get("seconds")}
