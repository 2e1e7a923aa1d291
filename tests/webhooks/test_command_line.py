"""The command line: one line when it cannot start, lines of JSON while it runs, and a clean end."""

from __future__ import annotations

import ast
import json
import logging
import os
import signal
import socket
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

import prefect_calendly
from prefect_calendly.webhooks import __main__ as module
from prefect_calendly.webhooks.__main__ import main
from prefect_calendly.webhooks.json_logs import JsonFormatter
from prefect_calendly.webhooks.signature import HEADER
from tests.settings import changed_settings
from tests.webhooks.examples import booking
from tests.webhooks.fake_prefect import SUMMARY, FakePrefect
from tests.webhooks.running import KEY, Receiver, eventually, process


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment in which the receiver could start; it leaves the logging of this process alone."""
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    monkeypatch.setenv("CALENDLY_WEBHOOK_SIGNING_KEY", KEY)
    monkeypatch.setattr(module, "log_json", lambda: None)


# What keeps it from starting


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "70000"], "is no port"),
        (["--port", "http"], "is no port"),
        (["--insecure"], "there is a signing key and --insecure is set"),
        (["--signing-key-block", "My Key"], "--signing-key-block must be the name of a Secret block"),
        (["--store", "receiver.db"], "the store needs a URL"),
        (["--store", "mysql://u:p4ssword@h/d"], "must be SQLite or PostgreSQL"),
        (["--path", "hooks"], "path must be"),
        (["--payload", "all"], "--payload"),
        (["--remember-days", "1"], "--remember-days must be at least 2"),
        (["--organization", "https://evil.example/"], "organization"),
    ],
)
def test_a_bad_argument_is_explained_in_one_line(
    configured: None, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["--port", "0", *arguments])
    assert exited.value.code == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert "p4ssword" not in error


def test_without_a_signing_key_it_does_not_start_and_says_how_to(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CALENDLY_WEBHOOK_SIGNING_KEY", " , ")
    with pytest.raises(SystemExit) as exited:
        main([])
    assert exited.value.code == 2
    error = capsys.readouterr().err
    assert all(word in error for word in ("CALENDLY_WEBHOOK_SIGNING_KEY", "--signing-key-block", "--insecure"))


def test_a_port_that_is_taken_is_explained(configured: None, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert main(["--port", str(other.getsockname()[1])]) == 1
    assert "cannot listen on 127.0.0.1:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("api", "words"), [(None, "PREFECT_API_URL is not set"), ("localhost:4200/api", "PREFECT_API_URL is no URL")]
)
def test_without_the_url_of_a_prefect_server_it_does_not_start(
    configured: None, api: str | None, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with changed_settings("api.url", api), pytest.raises(SystemExit) as exited:
        main(["--port", "0", "--store", f"sqlite:///{tmp_path / 'receiver.db'}"])
    assert exited.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("python -m prefect_calendly.webhooks: ")
    assert words in line


def test_a_store_that_cannot_be_used_is_explained_in_one_line(
    configured: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with changed_settings("api.url", "http://127.0.0.1:1/api"):
        assert main(["--port", "0", "--store", f"sqlite:///{tmp_path / 'nowhere' / 'receiver.db'}"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be used: [Errno 2] No such file or directory" in line


# While it runs


@dataclass
class Life:
    """What was seen of a receiver's process, from its start without Prefect to a signal in a hand-over."""

    not_ready: httpx.Response
    answers: dict[str, httpx.Response]
    signature: str
    prefect: FakePrefect
    store: Path
    listened_after_signal: bool = False
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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_by_default_its_store_is_in_prefects_home_and_a_signal_ends_it(
    configured: None, prefect: FakePrefect, tmp_path: Path, number: signal.Signals
) -> None:
    store = tmp_path / "home" / "calendly-receiver.db"
    with changed_settings("api.url", prefect.url), changed_settings("home", store.parent):

        def end() -> None:
            eventually(store.exists)
            eventually(lambda: getattr(signal.getsignal(number), "__name__", "") == "handle_exit")
            os.kill(os.getpid(), number)

        before = signal.getsignal(number)
        ending = threading.Thread(target=end)
        ending.start()
        assert main(["--port", "0"]) == 0
        ending.join()
        assert signal.getsignal(number) == before


def test_a_log_line_of_an_exception_has_its_type_and_place_and_not_its_text() -> None:
    try:
        raise ValueError("jane@example.org")
    except ValueError as error:
        record = logging.LogRecord("a", logging.ERROR, "f", 1, "it %s", ("broke",), (ValueError, error, None))
        line = json.loads(JsonFormatter().format(record))
    assert (line["message"], line["error"], line["level"]) == ("it broke", "ValueError", "error")
    assert line["at"][-1].startswith(__file__)
    assert "jane" not in json.dumps(line)


def test_what_flows_import_of_this_folder_does_not_load_the_receiver() -> None:
    loaded = imported_by("prefect_calendly.webhooks", "prefect_calendly.webhooks.keys")
    assert "prefect_calendly.webhooks.signature" in loaded
    assert not {"sqlalchemy", "uvicorn", "aiosqlite", "starlette"} & {name.partition(".")[0] for name in loaded}


def imported_by(*modules: str) -> set[str]:
    """All modules that some modules of the package load, directly or not, by what their files say."""
    root, found, left = Path(prefect_calendly.__file__).parent.parent, set[str](), list(modules)
    while left:
        if (name := left.pop()) in found:
            continue
        found.add(name)
        path = root / name.replace(".", "/")
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        for node in ast.walk(ast.parse(file.read_text())) if file.exists() else ():
            if isinstance(node, ast.ImportFrom) and node.module:
                left += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                left += [alias.name for alias in node.names]
    return found
