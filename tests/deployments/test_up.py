"""`make up` brings everything up, says what it does, and leaves nothing behind however it ends."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from deployments.files import deployments_of
from deployments.local import own_environment
from deployments.own_server import ui_link
from deployments.processes import free_port, is_free
from tests.support import ROOT, Stack, processes_of, running_stack, until

pytestmark = pytest.mark.stack


def ask(stack: Stack, path: str, **body: Any) -> Any:
    """Ask the Prefect server of a stack: a filter is posted, anything else read."""
    with stack.prefect() as http:
        answer = http.post(path, json=body) if path.endswith("/filter") else http.get(path)
        return answer.raise_for_status().json()


def link(stack: Stack, path: str) -> str:
    """What it prints for a person to open a page of the UI."""
    return ui_link(int(stack.ui_url.rpartition(":")[2]), stack.auth_string.partition(":")[2], path)


def up(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deployments.up", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120
    )


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that several starts share; nothing may be left of the last one."""
    home = tmp_path_factory.mktemp("own") / "up"
    yield home
    assert processes_of(home) == []


def by_hand(stack: Stack) -> dict[str, Any]:
    """The one run that somebody started; those of the subscription are the stack's own."""
    every = ask(stack, "/flow_runs/filter", limit=200)
    (run,) = [run for run in every if not run["auto_scheduled"] and "policy" in run["parameters"]]
    found: dict[str, Any] = run
    return found


# What is there


def test_it_shows_its_progress_and_where_to_look(stack: Stack) -> None:
    shown = stack.log.read_text()
    steps = (
        "Starting",
        "Sandbox gateway:",
        "Prefect server:",
        "Block calendly-credentials/main",
        "Deployments",
        "Ready",
    )
    places = [shown.index(f"▸ {step}") for step in steps]
    assert places == sorted(places)
    assert link(stack, "/deployments") in shown
    assert stack.sandbox_key not in shown
    assert (stack.home / "up.json").stat().st_mode & 0o777 == 0o600


def test_all_deployments_are_there_with_references_and_without_the_key(stack: Stack) -> None:
    shipped = {each["name"]: each for each in deployments_of()}
    deployments = {each["name"]: each for each in ask(stack, "/deployments/filter")}
    shipped["ensure-webhook-subscription"]["parameters"]["subscription"] |= {
        "callback_url": f"{stack.receiver_url}/webhooks/calendly",
        "backfill": False,  # what the sandbox forgets when it ends was not missed
    }
    for name, wanted in shipped.items():
        assert deployments[name]["parameters"] == wanted.get("parameters", {})  # references, as they are written
        assert deployments[name]["status"] == "READY"
        assert [each["slug"] for each in deployments[name]["schedules"]] == [
            each["slug"] for each in wanted.get("schedules", [])
        ]
    assert stack.sandbox_key not in json.dumps(deployments)
    assert stack.sandbox_key not in json.dumps(ask(stack, "/flow_runs/filter"))


def test_the_key_is_in_no_other_file_than_the_two_for_it(stack: Stack) -> None:
    files = [path for path in stack.home.rglob("*") if path.is_file()]
    assert any(path.name == "prefect.db" for path in files)
    holding = {path.name for path in files if stack.sandbox_key.encode() in path.read_bytes()}
    assert holding == {"state.json", "up.json"}
    assert (stack.home / "state.json").stat().st_mode & 0o777 == 0o600


def test_some_runs_are_there_to_look_at_and_one_awaits_a_person(stack: Stack) -> None:
    # Tests of the UI add runs to the same stack; its first ones stay.
    runs = sorted(ask(stack, "/flow_runs/filter"), key=lambda run: run["created"])[:5]
    states = sorted((run["name"].partition(" 2")[0], run["state"]["name"]) for run in runs)
    assert states == [
        ("availability digest", "Completed"),
        ("availability digest", "Completed"),
        ("cancel blocked domains", "Suspended"),
        ("cancel blocked domains (dry run)", "Completed"),
        (f"webhook of {stack.receiver_url.removeprefix('http://')}, scope organization", "Completed"),
    ]
    (waiting,) = [run["id"] for run in runs if run["state"]["name"] == "Suspended"]
    assert link(stack, f"/runs/flow-run/{waiting}") in stack.log.read_text()
    logs = ask(stack, "/logs/filter", logs={"flow_run_id": {"any_": [waiting]}})
    assert [log["level"] for log in logs if "Suspended" in log["message"]] == [logging.INFO]


def test_the_servers_password_is_only_where_its_owner_can_read_it(stack: Stack) -> None:
    password = stack.auth_string.partition(":")[2]
    assert (stack.home / "logs").stat().st_mode & 0o777 == 0o700
    holding = {path.name for path in stack.home.rglob("*") if path.is_file() and password.encode() in path.read_bytes()}
    assert holding == {"state.json", "up.json", "setup.log"}
    assert not [process for process in processes_of(stack.home) if password in " ".join(process.cmdline())]


def test_the_page_calls_the_server_that_it_comes_from(stack: Stack) -> None:
    settings = httpx.get(f"{stack.ui_url}/ui-settings", trust_env=False).json()
    assert settings["api_url"] == stack.api_url


def test_the_terminal_shows_what_runs_and_the_files_all_of_it(stack: Stack) -> None:
    shown = stack.log.read_text()
    assert re.search(r"^  \d\d:\d\d:\d\d cancel blocked domains \(dry run\): \d+ events checked", shown, re.MULTILINE)
    assert re.search(r"^  \d\d:\d\d:\d\d cancel blocked domains: Finished in state Suspended\(", shown, re.MULTILINE)
    for hidden in ("Beginning flow run", "pull step", "deployment step", "ERROR"):
        assert hidden not in shown
    worker = (stack.home / "logs" / "worker.log").read_text()
    assert "Beginning flow run" in worker
    assert {path.name for path in (stack.home / "logs").iterdir()} >= {"server.log", "sandbox.log", "deploy.log"}


# From start to stop


def test_nothing_of_the_users_own_prefect_or_key_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_KEY", "of-the-user")
    monkeypatch.setenv("NO_PROXY", "example.com")
    environment = own_environment(tmp_path, PREFECT_API_URL="http://127.0.0.1:1/api")
    of_prefect = {name for name in environment if name.startswith("PREFECT_")}
    assert "PREFECT_API_KEY" not in of_prefect
    assert environment["PREFECT_HOME"] == str(tmp_path / "prefect")
    assert environment["PREFECT_API_URL"] == "http://127.0.0.1:1/api"
    assert environment["NO_PROXY"] == "example.com,127.0.0.1,localhost"


def test_ctrl_c_in_the_middle_of_a_run_ends_everything(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MATON_API_KEY", "of-the-user")
    monkeypatch.setenv("PREFECT_API_URL", "https://of-the-user.example/api")
    with running_stack(own, "--no-runs") as stack:
        assert all("MATON_API_KEY" not in process.environ() for process in processes_of(own))
        # Schedules make runs, as they do not with every version of SQLAlchemy.
        deadline = time.monotonic() + 90
        while not (scheduled := [run for run in ask(stack, "/flow_runs/filter") if run["auto_scheduled"]]):
            assert time.monotonic() < deadline, "no run was scheduled"
            time.sleep(0.5)
        assert scheduled[0]["parameters"]["credentials"] == {
            "$ref": {"block_document_slug": "calendly-credentials/main"}
        }
        with stack.prefect() as http:
            deployment = http.get("/deployments/name/cancel-blocked-domains/cancel-blocked-domains-dry-run").json()
            run = http.post(f"/deployments/{deployment['id']}/create_flow_run", json={}).json()
            while http.get(f"/flow_runs/{run['id']}").json()["state"]["type"] != "RUNNING":
                time.sleep(0.2)
        assert any("prefect.engine" in " ".join(process.cmdline()) for process in processes_of(own))
        os.killpg(stack.process.pid, signal.SIGINT)
        assert stack.process.wait(timeout=60) == 0
    assert processes_of(own) == []
    assert is_free(int(stack.api_url.split(":")[2].partition("/")[0]))
    assert "Stopped; nothing is left running" in stack.log.read_text()
    assert not (own / "up.json").exists()
    assert "Traceback" not in stack.log.read_text()


def test_a_second_start_goes_on_from_there(own: Path) -> None:
    before = json.loads((own / "state.json").read_text())
    with running_stack(own) as stack:
        assert json.loads((own / "state.json").read_text()) == before
        assert stack.api_url == f"http://127.0.0.1:{before['port']}/api"
        assert stack.sandbox_key == before["sandbox_key"]
        # Each trigger of a deployment is an automation, and is there once although everything was deployed twice.
        triggers = {each["name"]: len(each.get("triggers", [])) for each in deployments_of()}
        automations = [each["name"] for each in ask(stack, "/automations/filter")]
        assert sorted(automations) == sorted(
            f"{name}__automation_{number}" for name, count in triggers.items() for number in range(1, count + 1)
        )

        # The first runs are not repeated; the one that was interrupted is rescheduled.
        deadline = time.monotonic() + 90
        while (run := by_hand(stack))["state"]["type"] != "COMPLETED":
            assert time.monotonic() < deadline, run
            time.sleep(0.5)
        assert run["run_count"] == 2
        assert "was interrupted; it is rescheduled" in stack.log.read_text()

        refused = up("--home", str(own))
        assert refused.returncode == 1
        assert refused.stderr == f"make up: already running in {own}: stop it, or give another folder with --home\n"

        # One that dies takes the others along.
        (server,) = [p for p in processes_of(own) if p.cmdline()[1:5] == ["-m", "prefect", "server", "start"]]
        server.kill()
        assert stack.process.wait(timeout=60) == 1
    assert processes_of(own) == []
    assert f"make up: server has ended, so all was stopped; see {own}/logs/server.log" in stack.log.read_text()


def test_what_a_killed_one_left_is_ended_by_the_next(own: Path) -> None:
    with running_stack(own, "--no-runs", "--no-schedules") as stack:
        children = psutil.Process(stack.process.pid).children()
        (watchdog,) = [child for child in children if "deployments.processes" in child.cmdline()]
        watchdog.kill()
        stack.process.kill()
        stack.process.wait(timeout=10)
        left = processes_of(own)
        assert left
        (own / "logs" / "deploy.log").unlink()
        (own / "logs" / "deploy.log").mkdir()  # so that the next one fails half way
        failed = up("--home", str(own))
        assert failed.returncode == 1
        assert "make up: IsADirectoryError(" in failed.stdout
        assert "Traceback" not in failed.stdout + failed.stderr
        assert not [process for process in left if process.is_running()]
    assert processes_of(own) == []


def test_a_killed_test_run_leaves_nothing_of_its_stack(own: Path) -> None:
    program = "import sys; from pathlib import Path; from tests.support import running_stack\n"
    program += "with running_stack(Path(sys.argv[1])): raise AssertionError('killed too late')"
    run = psutil.Popen([sys.executable, "-c", program, str(own)], cwd=ROOT)
    started: list[psutil.Process] = []
    try:
        started = until(lambda: run.children(recursive=True) if len(processes_of(own)) >= 3 else [])
    finally:
        run.kill()
        run.wait()
    assert psutil.wait_procs(started, timeout=30)[1] == []
    assert processes_of(own) == []


def test_what_it_cannot_start_with_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = up("--home", str(tmp_path / "up"), "--port", str(port))
        assert (done.returncode, done.stdout) == (1, "")
        assert (
            done.stderr
            == f"make up: port {port} is in use: set another one with make up PORT=…, or none for a free one\n"
        )
        assert free_port(port) != port
    for wrong in ("0", "65536", "http", "４２００"):
        done = up("--home", str(tmp_path / "up"), "--port", wrong)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"make up: argument --port: {wrong!r} is not a port; give a number from 1 to 65535\n"
    (tmp_path / "file").touch()
    done = up("--home", str(tmp_path / "file"))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    (tmp_path / "up" / "state.json").write_text("{")
    done = up("--home", str(tmp_path / "up"))
    assert done.returncode == 1
    assert "state.json cannot be read: make clean" in done.stderr
