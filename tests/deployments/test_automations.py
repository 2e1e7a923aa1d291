"""Automations are applied as often as one likes: they are there once, and what has not changed is left alone."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.settings import temporary_settings

from deployments import automations
from deployments.files import AUTOMATIONS
from tests.support import ROOT, Stack

pytestmark = pytest.mark.stack

PREFIX = "applied twice"


@pytest.fixture
def file(stack: Stack, tmp_path: Path) -> Iterator[Path]:
    """The shipped automations under names of this test's own; nothing is left of them."""
    path = tmp_path / "automations.yaml"
    path.write_text(AUTOMATIONS.read_text().replace("name: calendly - ", f"name: {PREFIX} - "))
    with temporary_settings(stack.settings), stack.prefect() as http:
        yield path
        for each in there(http):
            http.delete(f"/automations/{each['id']}").raise_for_status()


def there(http: httpx.Client) -> list[dict[str, Any]]:
    found = http.post("/automations/filter", json={}).raise_for_status().json()
    return sorted((each for each in found if each["name"].startswith(PREFIX)), key=lambda each: str(each["name"]))


def test_applied_again_nothing_changes_and_nothing_doubles(file: Path, stack: Stack) -> None:
    with stack.prefect() as http:
        names = asyncio.run(automations.apply(file))
        assert len(names) == 3
        first = there(http)
        assert [each["name"] for each in first] == sorted(names)

        # An update would give the trigger another id, and make the server forget whose sign of life is overdue.
        asyncio.run(automations.apply(file))
        assert there(http) == first

        file.write_text(file.read_text().replace("within: 90", "within: 60"))
        double = {key: first[0][key] for key in ("name", "description", "trigger", "actions")}
        http.post("/automations/", json=double).raise_for_status()
        asyncio.run(automations.apply(file))
        second = there(http)
        assert [each["name"] for each in second] == sorted(names)
        assert sorted(each["trigger"]["within"] for each in second) == [0, 60, 300]
        assert [each["id"] for each in second if each["trigger"]["within"] == 60] == [
            each["id"] for each in first if each["trigger"]["within"] == 90
        ]


def test_the_command_names_what_it_applied(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["automations", str(file)])
    assert automations.main() == 0
    assert capsys.readouterr().out.count(f"{PREFIX} - ") == 3
    file.write_text(file.read_text().replace("expect:", "expects:"))
    assert automations.main() == 1
    assert "automations[0].trigger.expects: Prefect does not read this" in capsys.readouterr().err


def test_without_a_server_it_says_so_in_one_line() -> None:
    command = [sys.executable, "-m", "deployments.automations"]
    done = subprocess.run(
        command, cwd=ROOT, env={"PREFECT_API_URL": "http://127.0.0.1:9/api"}, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("no Prefect server answers at http://127.0.0.1:9/api")
    assert done.stderr.count("\n") == 1
