"""Processes that were started together end together, however the process ends that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deployments.processes import MARK, end_all
from tests.support import ROOT, until

pytestmark = pytest.mark.stack

SLEEP = "import time; time.sleep(120)"
# It starts a process in a session of its own, which starts another one, as a worker does with a flow run.
PROGRAM = f"""
import os, subprocess, sys, time
from pathlib import Path
from deployments.processes import MARK, contained

home, sleep = Path(sys.argv[1]), [sys.executable, "-c", {SLEEP!r}]
worker = f"import subprocess; subprocess.Popen({{sleep!r}}, start_new_session=True).wait()"
with contained(home, with_parent=True):
    command = [sys.executable, "-c", worker]
    subprocess.Popen(command, env={{**os.environ, MARK: str(home)}}, start_new_session=True)
    time.sleep(120)
"""
STARTER = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]])"


@pytest.fixture
def starter(tmp_path: Path) -> Iterator[psutil.Popen]:
    """A process that runs the program above; nothing may be left of it."""
    process = psutil.Popen([sys.executable, "-c", STARTER, PROGRAM, str(tmp_path)], cwd=ROOT, start_new_session=True)
    yield process
    end_all(tmp_path)
    process.kill()
    process.wait()


def below(process: psutil.Process) -> list[psutil.Process]:
    """Return the program, its watchdog, its worker and what the worker runs, as soon as all of them are there."""
    return until(lambda: found if len(found := process.children(recursive=True)) == 4 else [])


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_whatever_ends_the_program_ends_all_that_it_has_started(starter: psutil.Popen, how: signal.Signals) -> None:
    program, *others = below(starter)
    program.send_signal(how)
    assert psutil.wait_procs([program, *others], timeout=30)[1] == []


def test_the_program_ends_with_the_process_that_has_started_it(starter: psutil.Popen) -> None:
    every = below(starter)
    starter.kill()
    assert psutil.wait_procs(every, timeout=30)[1] == []


def test_processes_are_ended_by_their_mark_and_no_others(tmp_path: Path) -> None:
    sleep = [sys.executable, "-c", SLEEP]
    ours = subprocess.Popen(sleep, env={**os.environ, MARK: str(tmp_path)}, start_new_session=True)
    others = subprocess.Popen(sleep, env={**os.environ, MARK: str(tmp_path / "other")})
    try:
        end_all(tmp_path)
        assert not psutil.pid_exists(ours.pid)
        assert others.poll() is None
    finally:
        for process in (ours, others):
            process.kill()
            process.wait()
