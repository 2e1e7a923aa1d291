"""The commands as processes of their own, as a person starts them at a terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.support import ROOT

pytestmark = pytest.mark.stack


def test_init_asks_the_person_at_a_terminal(tmp_path: Path) -> None:
    here, there = pty.openpty()
    command = [sys.executable, "-m", "prefect_calendly.cli", "init", str(tmp_path / "mine")]
    process = subprocess.Popen(command, cwd=ROOT, stdin=there, stdout=there, stderr=there)
    os.close(there)
    shown = ""
    try:
        for until, answer in (("[all]: ", "nonsense"), ("such as 1,3", "2, poll-bookings"), ("new files", "")):
            while until not in shown:
                assert select.select([here], [], [], 60)[0], shown
                shown += os.read(here, 1024).decode()
            os.write(here, f"{answer}\n".encode())
        process.wait(30)
    finally:
        process.kill()
        process.wait()
        os.close(here)
    assert process.returncode == 0
    flows = {path.stem for path in (tmp_path / "mine" / "flows").glob("*.py")} - {"__init__"}
    assert flows == {"availability_digest", "poll_bookings"}


def test_the_sandbox_starts_answers_and_ends_with_ctrl_c() -> None:
    command = [sys.executable, "-m", "prefect_calendly.sandbox", "--events", "3", "--api-key", "k"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        assert process.stderr
        line = process.stdout.readline()
        found = re.fullmatch(r"listening on (http://127\.0\.0\.1:\d+)\n", line)
        assert found, line + process.stderr.read()
        answer = httpx.get(f"{found[1]}/calendly/users/me", headers={"Authorization": "Bearer k"}, trust_env=False)
        assert answer.json()["resource"]["name"] == "Alice Johnson"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err) == (0, "", "")
    finally:
        process.kill()
        process.communicate()
