"""The deployments can be served from one process, without a work pool."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from prefect.client.schemas.objects import ConcurrencyLimitStrategy

from deployments import serve
from deployments.files import FILE, deployments_of
from tests.support import ROOT, Stack

pytestmark = pytest.mark.stack


def serving(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deployments.serve", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60
    )


def written(number: int, **changes: Any) -> dict[str, Any]:
    return {**json.loads(json.dumps(deployments_of()[number])), **changes}


def test_what_is_served_is_what_the_file_says() -> None:
    for wanted in deployments_of():
        made = serve.runner_deployment(wanted)
        assert made.name == wanted["name"]
        assert made.entrypoint == wanted["entrypoint"]
        assert made.parameters == wanted.get("parameters", {})
        assert made.tags == wanted["tags"]
        assert made.description == wanted["description"]
        assert made.work_pool_name is None
        assert [(each.slug, each.schedule.cron, each.schedule.timezone) for each in made.schedules or []] == [
            (each["slug"], each["cron"], each["timezone"]) for each in wanted.get("schedules", [])
        ]
        limit = wanted.get("concurrency_limit")
        assert made.concurrency_limit == (limit and limit["limit"])
        if limit:
            assert made.concurrency_options is not None
            assert made.concurrency_options.collision_strategy == ConcurrencyLimitStrategy.CANCEL_NEW
        assert len(made.triggers) == len(wanted.get("triggers", []))
    assert made.triggers[0].parameters == {"flow_run_id": "{{ flow_run.id | string }}"}


def test_other_kinds_of_schedules_limits_and_entrypoints_are_served_too() -> None:
    schedules = [
        {"interval": 600, "slug": "often", "timezone": "UTC"},
        {"rrule": "FREQ=DAILY", "slug": "daily", "timezone": "UTC", "active": False},
    ]
    module = "flows.availability_digest.availability_digest"
    made = serve.runner_deployment(written(3, schedules=schedules, concurrency_limit=2, entrypoint=module))
    interval, rule = made.schedules or []
    assert interval.schedule.interval == timedelta(minutes=10)
    assert rule.schedule.rrule.endswith("FREQ=DAILY")
    assert rule.active is False
    assert made.concurrency_limit == 2
    assert made.entrypoint == module


def test_the_environment_of_runs_is_that_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})
    serve._environment_of_runs(FILE)
    assert os.environ == {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}
    for wrong in ("[", "deployments: 1", "deployments: [{work_pool: 1}]"):  # told by the check
        (tmp_path / "wrong.yaml").write_text(wrong)
        serve._environment_of_runs(tmp_path / "wrong.yaml")


def test_a_file_with_mistakes_is_not_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "prefect.yaml"
    file.write_text(yaml.safe_dump({"pull": [], "deployments": [written(3, parameter={})]}))
    monkeypatch.setattr(sys, "argv", ["serve", str(file)])
    assert serve.main() == 1
    assert capsys.readouterr().err.startswith("availability-digest: parameter: Prefect does not read this")


def test_without_a_server_or_a_block_it_says_what_to_do(stack: Stack, tmp_path: Path) -> None:
    done = serving(PREFECT_API_URL="http://127.0.0.1:9/api")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("no Prefect server answers at http://127.0.0.1:9/api")
    assert done.stderr.count("\n") == 1

    file = tmp_path / "prefect.yaml"
    text = FILE.read_text().replace("calendly-credentials/main", "calendly-credentials/none")
    file.write_text(text)
    done = serving(str(file), **stack.environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("block calendly-credentials/none: does not exist; save it")
    assert done.stderr.count("\n") == 1


def test_a_served_deployment_runs_and_stops_with_its_process(stack: Stack, tmp_path: Path) -> None:
    file, log = tmp_path / "prefect.yaml", tmp_path / "log"
    file.write_text(yaml.safe_dump({"pull": [], "deployments": [written(3, name="served")]}))
    command = [sys.executable, "-m", "deployments.serve", str(file)]
    environment = {**os.environ, **stack.environment, "PREFECT_RUNNER_POLL_FREQUENCY": "1"}
    with log.open("w") as output, stack.prefect() as http:
        process = psutil.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
        try:
            path, deadline = "/deployments/name/availability-digest/served", time.monotonic() + 300
            while (answer := http.get(path)).status_code == 404:
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.3)
            made = answer.json()
            assert (made["work_pool_name"], made["status"]) == (
                None,
                "NOT_READY" if not made["last_polled"] else "READY",
            )
            run = http.post(f"/deployments/{made['id']}/create_flow_run", json={}).raise_for_status().json()
            while http.get(f"/flow_runs/{run['id']}").json()["state"]["type"] != "COMPLETED":
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.3)
        finally:
            children = process.children(recursive=True)
            process.terminate()
            _, alive = psutil.wait_procs([process, *children], timeout=30)
            for each in alive:
                each.kill()
        assert not alive
        assert http.get(path).json()["paused"]  # nobody is there to run its schedule
