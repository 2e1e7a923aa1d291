"""A worker is stopped or killed in the middle of a cancel run: in the end exactly what was planned is canceled."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
import pytest
import yaml
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments import automations
from deployments.files import AUTOMATIONS, FILE, deployments_of
from deployments.local import own_environment
from deployments.processes import contained, free_port
from prefect_calendly.sandbox import Sandbox
from tests.endurance.running import Processes
from tests.fixtures import credentials_for
from tests.postgres import Postgres
from tests.support import ROOT

pytestmark = pytest.mark.stack

TAG = "mid-run"
SILENCE_SECONDS = 40  # a heartbeat comes every 30 s, and no oftener


class Case:
    """The shipped cancel deployment once more, with a pool, a worker, a block and a sandbox of its own."""

    def __init__(self, name: str, api_url: str, sandbox: Sandbox, http: httpx.Client, folder: Path) -> None:
        self.name, self.sandbox, self.http = name, sandbox, http
        self.environment = {**os.environ, "PREFECT_API_URL": api_url, "PREFECT_WORKER_QUERY_SECONDS": "1"}
        self.log = folder / f"{name}.log"
        self.worker: psutil.Popen | None = None
        self.deployment = json.loads(json.dumps(deployments_of()[0]))
        del self.deployment["schedules"]
        self.deployment |= {"name": name, "tags": [TAG, "writes"]}
        self.deployment["work_pool"]["name"] = name
        self.deployment["parameters"]["credentials"]["$ref"]["block_document_slug"] = f"calendly-credentials/{name}"
        credentials_for(sandbox, max_concurrency=1).save(name, overwrite=True)
        http.post("/work_pools/", json={"name": name, "type": "process"}).raise_for_status()

    def start_worker(self) -> None:
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", self.name]
        with self.log.open("a") as log:
            self.worker = psutil.Popen(command, cwd=ROOT, env=self.environment, stdout=log, stderr=log)

    def end_worker(self, how: signal.Signals) -> None:
        """SIGTERM goes to the worker, as `systemctl stop` does it; SIGKILL takes all at once, as a power cut."""
        assert self.worker is not None
        processes = [self.worker, *self.worker.children(recursive=True)]
        for process in processes if how == signal.SIGKILL else processes[:1]:
            process.send_signal(how)
        _, left = psutil.wait_procs(processes, timeout=20)
        for process in left:  # as systemd does, which has no endless patience either
            process.kill()
        assert not psutil.wait_procs(left, timeout=20)[1]
        self.worker = None

    def start_run(self) -> None:
        deployment = self.http.get(f"/deployments/name/cancel-blocked-domains/{self.name}").raise_for_status().json()
        answer = self.http.post(f"/deployments/{deployment['id']}/create_flow_run", json={}).raise_for_status()
        self.run_id = answer.json()["id"]

    @property
    def state(self) -> str:
        return str(self.http.get(f"/flow_runs/{self.run_id}").raise_for_status().json()["state"]["name"])

    @property
    def history(self) -> list[str]:
        found = self.http.get("/flow_run_states/", params={"flow_run_id": self.run_id}).raise_for_status().json()
        return [state["name"] for state in sorted(found, key=lambda state: str(state["timestamp"]))]

    @property
    def slots_taken(self) -> list[int]:
        found = self.http.post("/v2/concurrency_limits/filter", json={}).raise_for_status().json()
        return [limit["active_slots"] for limit in found if limit["active_slots"]]

    @property
    def planned(self) -> list[str]:
        """What the run's first plan says, which it wrote down before it canceled anything."""
        wanted = {"flow_run_id": {"any_": [self.run_id]}, "key": {"any_": ["cancel-blocked-domains-decisions"]}}
        found = self.http.post("/artifacts/filter", json={"artifacts": wanted}).raise_for_status().json()
        rows = json.loads(min(found, key=lambda artifact: str(artifact["created"]))["data"]) if found else []
        return sorted(uuid_in(row["event"]) for row in rows if row["status"] == "about to be canceled")

    @property
    def canceled(self) -> list[str]:
        """What has happened, as Calendly says."""
        return sorted(uuid_in(event["uri"]) for event in self.sandbox.state()["canceled_by_api"])


def uuid_in(text: str) -> str:
    return text.rpartition("/")[2].rstrip(")")


def wait_until(what: Callable[[], bool], seconds: float, cases: list[Case]) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        logs = [(case.state, case.log.read_text()[-3000:]) for case in cases] if time.monotonic() > deadline else []
        assert not logs, logs
        time.sleep(0.2)


@pytest.fixture
def api_url(postgres: Postgres, tmp_path: Path) -> Iterator[str]:
    """A Prefect server as it runs for real: with SQLite, its automations overlook silent runs, or act twice."""
    home, port = tmp_path / "server", free_port()
    api_url = f"http://127.0.0.1:{port}/api"
    environment = own_environment(
        home,
        PREFECT_SERVER_API_HOST="127.0.0.1",
        PREFECT_SERVER_API_PORT=str(port),
        PREFECT_SERVER_DATABASE_CONNECTION_URL=f"postgresql+asyncpg://{postgres.create('prefect')}",
        PREFECT_SERVER_UI_ENABLED="false",
    )
    with contained(home):
        Processes(home).start("server", ["-m", "prefect", "server", "start"], environment, f"{api_url}/health")
        yield api_url


@pytest.fixture
def cases(api_url: str, tmp_path: Path) -> Iterator[dict[signal.Signals, Case]]:
    """Two cases at the same time, for it takes its time until a run is missed."""
    text = AUTOMATIONS.read_text().replace("prefect.tag.calendly", f"prefect.tag.{TAG}")
    text = text.replace("name: calendly - ", f"name: {TAG} - ").replace("within: 90", f"within: {SILENCE_SECONDS}")
    (tmp_path / "automations.yaml").write_text(text)
    cases: dict[signal.Signals, Case] = {}
    with ExitStack() as exits:
        exits.enter_context(temporary_settings({PREFECT_API_URL: api_url}))
        http = exits.enter_context(httpx.Client(base_url=api_url, timeout=120))
        assert len(asyncio.run(automations.apply(tmp_path / "automations.yaml"))) == 3
        for how in (signal.SIGTERM, signal.SIGKILL):
            sandbox = exits.enter_context(Sandbox(events=60, invitees=120, hosts=3, seed=7, gateway_rps=0))
            cases[how] = Case(f"{TAG}-{how.name.lower()}", api_url, sandbox, http, tmp_path)
        file = tmp_path / "prefect.yaml"
        shipped = yaml.safe_load(FILE.read_text())
        file.write_text(yaml.safe_dump({**shipped, "deployments": [case.deployment for case in cases.values()]}))
        command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--prefect-file", str(file), "--all"]
        environment = {**os.environ, "PREFECT_API_URL": api_url}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        try:
            yield cases
        finally:
            for case in cases.values():
                if case.worker is not None:
                    case.end_worker(signal.SIGKILL)


def test_the_run_of_a_worker_that_ended_is_run_again_and_cancels_exactly_what_was_planned(
    cases: dict[signal.Signals, Case],
) -> None:
    every = list(cases.values())
    for case in every:
        # One of them may be much faster than the other, and what is stopped may go on for a while.
        for number in range(8):
            case.sandbox.add_event(invitees=[{"email": f"someone{number}@blocked.example"}])
        case.sandbox.fault(
            "latency", seconds=4, method="POST", route="/scheduled_events/{uuid}/cancellation", times=None
        )
        case.start_worker()
        case.start_run()
    wait_until(lambda: all(case.canceled for case in every), 300, every)
    for how, case in cases.items():
        assert case.state == "Running"
        case.end_worker(how)
        assert 0 < len(case.canceled) < len(case.planned)
        case.sandbox.clear_faults()
        case.start_worker()
    wait_until(lambda: all(case.state == "Completed" for case in every), 300, every)
    for case in every:
        assert case.canceled == case.planned
        assert case.history[case.history.index("Running") :] == [
            *("Running", "Crashed", "AwaitingRetry"),
            *("Pending", "Submitting", "Running", "Completed"),
        ]
        # The limit of one run at a time lets the next one in.
        assert case.slots_taken == []
