"""The command line: one line when it cannot start, lines of JSON while it runs, and a clean end."""

from __future__ import annotations

import ast
import json
import logging
import os
import signal
import socket
import threading
from pathlib import Path

import pytest

import prefect_calendly
from prefect_calendly.webhooks import __main__ as module
from prefect_calendly.webhooks.__main__ import main
from prefect_calendly.webhooks.json_logs import JsonFormatter
from tests.settings import changed_settings
from tests.webhooks.fake_prefect import FakePrefect
from tests.webhooks.running import KEY, eventually


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
def test_without_the_url_of_prefect_it_does_not_start(
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
