"""The command line: one line when it cannot start, lines of JSON while it runs, a clean end; and its HTTP server."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from prefect_calendly.webhooks import __main__ as module
from prefect_calendly.webhooks.__main__ import _JsonFormatter, main
from prefect_calendly.webhooks.signature import HEADER
from tests.support import until
from tests.webhooks.examples import booking
from tests.webhooks.running import KEY, PATH, FakePrefect, Receiver, process


def ended(receiver: Receiver, number: int = signal.SIGTERM) -> int:
    assert receiver.process is not None
    receiver.process.send_signal(number)
    return receiver.process.wait(timeout=30)


def listens(receiver: Receiver) -> bool:
    try:
        socket.create_connection(receiver.address).close()
    except ConnectionError:
        return False
    return True


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An environment in which it could start."""
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    monkeypatch.setenv("CALENDLY_WEBHOOK_SIGNING_KEY", KEY)
    return


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
    started: None, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
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


def test_a_port_that_is_taken_is_explained(started: None, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert main(["--port", str(other.getsockname()[1])]) == 1
    assert "cannot listen on 127.0.0.1:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("api", "store", "code", "words"),
    [
        ("", "receiver.db", 2, "PREFECT_API_URL is not set"),
        ("localhost:4200/api", "receiver.db", 2, "PREFECT_API_URL is no URL"),
        ("http://127.0.0.1:1/api", "nowhere/receiver.db", 1, "cannot be used: [Errno 2] No such file or directory"),
    ],
)
def test_what_keeps_it_from_starting_is_one_line_too(
    tmp_path: Path, api: str, store: str, code: int, words: str
) -> None:
    command = [
        sys.executable,
        "-m",
        "prefect_calendly.webhooks",
        "--port",
        "0",
        "--store",
        f"sqlite:///{tmp_path / store}",
    ]
    environment = {**os.environ, "PREFECT_API_URL": api, "CALENDLY_WEBHOOK_SIGNING_KEY": KEY}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (code, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("python -m prefect_calendly.webhooks: ")
    assert words in line


def test_it_logs_json_serves_and_ends_with_a_clean_exit(prefect: FakePrefect, tmp_path: Path) -> None:
    log = tmp_path / "log"
    keys = {"CALENDLY_WEBHOOK_SIGNING_KEY": f"older, {KEY}"}
    with process(tmp_path / "receiver.db", prefect.url, log=log, **keys) as receiver:
        body = json.dumps(booking(1)).encode()
        answer = receiver.deliver(body)
        assert (answer.status_code, answer.json()) == (200, {"status": "accepted"})
        assert "server" not in answer.headers
        assert receiver.deliver(body, key="older").json() == {"status": "duplicate"}
        assert receiver.deliver(body, key="another").status_code == 401
        assert receiver.deliver(b'{"email": "jane@example.org"}').status_code == 400
        assert receiver.http.get(f"{receiver.url}/jane@example.org?secret=1").status_code == 404
        signature = receiver.headers(body)[HEADER]
        assert ended(receiver) == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert all(line.keys() >= {"time", "level", "logger", "message"} for line in lines)
    messages = [line["message"] for line in lines]
    assert messages[0] == "listening"
    assert {"accepted invitee.created", "duplicate invitee.created"} <= set(messages)
    (accepted,) = [line for line in lines if line["message"].startswith("accepted")]
    assert accepted["event"] == "invitee.created"
    assert accepted["resource"] == "calendly.invitee.INVITEE1"
    assert {line["reason"] for line in lines if "reason" in line} == {"signature_wrong", "malformed", "path"}
    for word in ("jane", "doe", "secret", "@", KEY, signature.rpartition("=")[2], prefect.url):
        assert word.lower() not in log.read_text().lower()
    (summary,) = prefect.named("calendly.receiver.summary")
    assert (summary["payload"]["accepted"], summary["payload"]["duplicates"]) == (1, 1)
    assert stat.S_IMODE((tmp_path / "receiver.db").stat().st_mode) == 0o600


def test_its_store_is_in_the_home_folder_of_prefect_when_nothing_else_is_said(
    started: None, prefect: FakePrefect, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "_log_json", lambda: None)  # it changes the logging of the whole process
    store = tmp_path / "home" / "calendly-receiver.db"
    with temporary_settings({PREFECT_API_URL: prefect.url, PREFECT_HOME: store.parent}):

        def end() -> None:
            until(store.exists, 20)
            until(lambda: signal.getsignal(signal.SIGTERM) != before, 20)
            os.kill(os.getpid(), signal.SIGTERM)

        before = signal.getsignal(signal.SIGTERM)
        ending = threading.Thread(target=end)
        ending.start()
        assert main(["--port", "0"]) == 0
        ending.join()
        assert signal.getsignal(signal.SIGTERM) == before


def test_told_to_end_in_the_middle_of_a_hand_over_it_finishes_it(prefect: FakePrefect, tmp_path: Path) -> None:
    answers: list[httpx.Response] = []
    prefect.answers.clear()
    with process(tmp_path / "receiver.db", prefect.url) as receiver:
        sender = threading.Thread(target=lambda: answers.append(receiver.deliver(booking(1))))
        sender.start()
        prefect.asked.wait(30)
        assert receiver.process is not None
        receiver.process.send_signal(signal.SIGTERM)
        until(lambda: not listens(receiver), 20)
        assert receiver.process.poll() is None
        prefect.answers.set()
        assert receiver.process.wait(timeout=30) == 0
        sender.join()
    assert [answer.json() for answer in answers] == [{"status": "accepted"}]
    assert len(prefect.named("calendly.invitee.created")) == 1


def test_it_starts_while_prefect_is_away_and_waits_for_it(tmp_path: Path) -> None:
    prefect = FakePrefect()
    prefect.stop()
    with process(tmp_path / "receiver.db", prefect.url) as receiver:
        assert receiver.get("/readyz").status_code == 503
        prefect.start()
        assert receiver.deliver(booking(1)).status_code == 200
        assert ended(receiver, signal.SIGINT) == 0
    prefect.stop()


# The HTTP server


def hung_up(connection: socket.socket) -> bytes:
    """What comes until the other side hangs up."""
    came = b""
    connection.settimeout(30)
    try:
        while more := connection.recv(65_536):
            came += more
    except ConnectionError:
        pass
    return came


@pytest.mark.parametrize("start", [b"", b"POST / HTTP/1.1\r\nhost: a", b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\nGET"])
def test_those_who_do_not_finish_a_request_are_sent_away(
    prefect: FakePrefect, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, start: bytes
) -> None:
    monkeypatch.setattr(module, "_CLIENT_SECONDS", 0.3)
    with socket.create_connection(receiver.address) as connection:
        connection.sendall(start)
        over = threading.Event()

        def trickle() -> None:  # a byte from time to time gives no more time
            try:
                while not over.wait(0.05):
                    connection.sendall(b"x")
            except OSError:
                pass

        trickling = threading.Thread(target=trickle)
        trickling.start()
        came = hung_up(connection)
        over.set()
        trickling.join()
    assert came.startswith(b"HTTP/1.1 200") == start.startswith(b"GET")


def test_a_request_that_takes_longer_than_a_client_may_is_still_answered(
    prefect: FakePrefect, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CLIENT_SECONDS", 0.1)
    prefect.answers.clear()
    releasing = threading.Timer(0.4, prefect.answers.set)
    releasing.start()
    assert receiver.deliver(booking(1)).status_code == 200


def test_who_goes_on_sending_what_was_refused_is_cut_off(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_UNREAD_BYTES", 1_000_000)
    head = f"POST {PATH} HTTP/1.1\r\nhost: a\r\ncontent-type: text/plain\r\ncontent-length: 100000000\r\n\r\n"
    with socket.create_connection(receiver.address) as connection:
        connection.sendall(head.encode())
        with pytest.raises(ConnectionError):
            connection.sendall(b" " * 100_000_000)
    assert receiver.deliver(booking(1)).status_code == 200


def test_more_connections_than_there_may_be_are_refused_and_the_others_served(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert receiver.deliver(booking(1)).status_code == 200
    monkeypatch.setattr(module, "_MOST_CONNECTIONS", 5)
    others = [socket.create_connection(receiver.address) for _ in range(4)]
    time.sleep(0.1)
    with socket.create_connection(receiver.address) as one_too_many:
        assert hung_up(one_too_many) == b""
    assert receiver.deliver(booking(2)).status_code == 200
    for other in others:
        other.close()


def test_a_log_line_of_an_exception_has_its_type_and_place_and_not_its_text() -> None:
    try:
        raise ValueError("jane@example.org")
    except ValueError as error:
        record = logging.LogRecord("a", logging.ERROR, "f", 1, "it %s", ("broke",), (ValueError, error, None))
        line = json.loads(_JsonFormatter().format(record))
    assert (line["message"], line["error"], line["level"]) == ("it broke", "ValueError", "error")
    assert line["at"][-1].startswith(__file__)
    assert "jane" not in json.dumps(line)


def test_what_flows_import_does_not_load_the_receiver() -> None:
    code = "import sys, prefect_calendly.webhooks; print({'sqlalchemy', 'uvicorn', 'aiosqlite'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
