"""The receiver as a process that is killed, or cannot start."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import httpx

from tests.webhooks.examples import booking, event_ids
from tests.webhooks.fake_prefect import FakePrefect
from tests.webhooks.running import KEY, confirmed, eventually, process, running, settings


def test_a_receiver_that_is_killed_in_the_middle_of_a_hand_over_loses_nothing(tmp_path: Path) -> None:
    path, prefect = tmp_path / "receiver.db", FakePrefect()
    prefect.answers.clear()
    with process(path, prefect.url) as first:

        def send() -> None:
            with contextlib.suppress(httpx.HTTPError):
                first.deliver(booking(1))

        sender = threading.Thread(target=send)
        sender.start()
        prefect.asked.wait(60)
        assert first.process is not None
        first.process.send_signal(signal.SIGKILL)
        sender.join()
    prefect.stop()
    prefect.answers.set()
    prefect.start()
    assert not prefect.accepted
    with running(settings(path), prefect.url) as second:
        eventually(confirmed(second, 1))
        assert second.deliver(booking(1)).json() == {"status": "duplicate"}
    assert prefect.accepted == dict.fromkeys(event_ids(booking(1)), 1)
    prefect.stop()


def test_what_keeps_it_from_starting_is_all_that_it_prints(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'nowhere' / 'receiver.db'}"
    command = [sys.executable, "-m", "prefect_calendly.webhooks", "--port", "0", "--store", store]
    environment = {
        **os.environ,
        "PREFECT_API_URL": "http://127.0.0.1:1/api",
        "CALENDLY_WEBHOOK_SIGNING_KEY": KEY,
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("python -m prefect_calendly.webhooks: ")
    assert "cannot be used: [Errno 2] No such file or directory" in line
