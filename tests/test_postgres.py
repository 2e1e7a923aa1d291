"""The PostgreSQL of the tests: nothing outlives them, and where it is not installed they say so."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import psutil
import pytest

from deployments.processes import MARK, end_all
from tests import postgres
from tests.support import ROOT, until

pytestmark = pytest.mark.stack

PROGRAM = """
import sys, time
from pathlib import Path
from deployments.processes import contained
from tests.postgres import find_postgres, running_postgres

home = Path(sys.argv[1])
with contained(home), running_postgres(find_postgres(), home / "log"):
    (home / "ready").touch()
    time.sleep(120)
"""


def test_nothing_outlives_a_killed_program_although_it_runs_as_another_user(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    program = psutil.Popen(command, cwd=ROOT, env={**os.environ, MARK: str(tmp_path)}, start_new_session=True)
    started: list[psutil.Process] = []
    try:
        until((tmp_path / "ready").exists)
        started = program.children(recursive=True)
        server = [process for process in started if process.name() == "postgres"]
        assert len(server) > 1
        assert all(process.uids().real != 0 for process in server)
        data = Path(server[0].cwd())
    finally:
        program.kill()
        program.wait()
        left = psutil.wait_procs(started, timeout=30)[1]
        end_all(tmp_path)
    assert left == []
    shutil.rmtree(data.parent)  # a killed program cannot do that


@pytest.mark.parametrize(("ci", "outcome"), [("", "skipped"), ("1", "errors")])
def test_without_its_programs_tests_are_skipped_but_fail_in_ci_and_say_what_to_install(
    ci: str, outcome: str, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(postgres, "DEBIAN", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CI", ci)
    pytester.makeconftest("from tests.support import postgres")
    pytester.makepyfile("def test_it(postgres): pass")
    done = pytester.runpytest_inprocess("-rs", "-p", "no:cacheprovider", "-p", "no:asyncio")
    done.assert_outcomes(**{outcome: 1})
    assert "PostgreSQL's initdb is missing: apt-get install postgresql" in done.stdout.str()
