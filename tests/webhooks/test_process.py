"""The receiver as a process of its own: its start, its log, a signal, a kill."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from prefect_calendly.webhooks.signature import HEADER
from tests.webhooks.examples import booking, event_ids
from tests.webhooks.fake_prefect import SUMMARY, FakePrefect
from tests.webhooks.running import KEY, Receiver, confirmed, eventually, process, running, settings

pytestmark = pytest.mark.stack


@dataclass
class Life:
    """What was seen of a receiver's process, from its start without Prefect to a signal in a hand-over."""

    not_ready: httpx.Response
    answers: dict[str, httpx.Response]
    signature: str
    prefect: FakePrefect
    store: Path
    ended_before_answer: bool = False
    last_answer: list[httpx.Response] = field(default_factory=list)
    exit_code: int | None = None
    log: str = ""

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.splitlines()]


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    folder = tmp_path_factory.mktemp("life")
    prefect = FakePrefect()
    prefect.stop()
    keys = {"CALENDLY_WEBHOOK_SIGNING_KEY": f"older, {KEY}"}
    with process(folder / "receiver.db", prefect.url, log=folder / "log", **keys) as receiver:
        not_ready = receiver.get("/readyz")
        prefect.start()
        body = json.dumps(booking(1)).encode()
        answers = {
            "first": receiver.deliver(body),
            "again": receiver.deliver(body, key="older"),
            "other key": receiver.deliver(body, key="another"),
            "no delivery": receiver.deliver(b'{"email": "jane@example.org"}'),
            "other path": receiver.http.get(f"{receiver.url}/jane@example.org?secret=1"),
        }
        life = Life(not_ready, answers, receiver.headers(body)[HEADER], prefect, folder / "receiver.db")
        _end_in_the_middle(receiver, prefect, life)
    life.log = (folder / "log").read_text()
    yield life
    prefect.stop()


def _end_in_the_middle(receiver: Receiver, prefect: FakePrefect, life: Life) -> None:
    assert receiver.process is not None
    prefect.answers.clear()
    prefect.asked.clear()
    sender = threading.Thread(target=lambda: life.last_answer.append(receiver.deliver(booking(2))))
    sender.start()
    prefect.asked.wait(60)
    receiver.process.send_signal(signal.SIGTERM)
    eventually(lambda: not listens(receiver))
    life.ended_before_answer = receiver.process.poll() is not None
    prefect.answers.set()
    sender.join()
    life.exit_code = receiver.process.wait(timeout=60)


def listens(receiver: Receiver) -> bool:
    try:
        socket.create_connection(receiver.address).close()
    except ConnectionError:
        return False
    return True


def test_it_starts_while_prefect_is_away_and_works_when_it_is_there(life: Life) -> None:
    assert life.not_ready.status_code == 503
    assert (life.answers["first"].status_code, life.answers["first"].json()) == (200, {"status": "accepted"})
    assert "server" not in life.answers["first"].headers
    assert len(life.prefect.named("calendly.invitee.created")) == 2


def test_keys_from_the_environment_are_accepted(life: Life) -> None:
    assert life.answers["again"].json() == {"status": "duplicate"}
    assert life.answers["other key"].status_code == 401
    assert life.answers["no delivery"].status_code == 400
    assert life.answers["other path"].status_code == 404


def test_its_log_is_lines_of_json_with_nothing_personal(life: Life) -> None:
    assert all(line.keys() >= {"time", "level", "logger", "message"} for line in life.lines)
    messages = [line["message"] for line in life.lines]
    assert messages[0] == "listening"
    assert {"accepted invitee.created", "duplicate invitee.created"} <= set(messages)
    accepted = next(line for line in life.lines if line["message"].startswith("accepted"))
    assert accepted["event"] == "invitee.created"
    assert accepted["resource"] == "calendly.invitee.INVITEE1"
    assert {line["reason"] for line in life.lines if "reason" in line} == {"signature_wrong", "malformed", "path"}
    digest = life.signature.rpartition("=")[2]
    for word in ("jane", "doe", "secret", "@", KEY, digest, life.prefect.url):
        assert word.lower() not in life.log.lower()


def test_a_signal_in_the_middle_of_a_hand_over_lets_it_finish_and_exit_with_0(life: Life) -> None:
    assert not life.ended_before_answer
    assert [answer.json() for answer in life.last_answer] == [{"status": "accepted"}]
    assert life.exit_code == 0
    summaries = [each["payload"] for each in life.prefect.named(SUMMARY)]
    assert sum(each["accepted"] for each in summaries) == 2
    assert sum(each["duplicates"] for each in summaries) == 1


def test_its_store_can_be_read_by_its_owner_only(life: Life) -> None:
    assert stat.S_IMODE(life.store.stat().st_mode) == 0o600


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
