"""The command line: one line when ready, a clean end; and the pytest plugin."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from contextlib import contextmanager

import httpx
import pytest


@contextmanager
def running(*arguments):
    command = [sys.executable, "-m", "prefect_calendly.sandbox", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        found = re.fullmatch(r"listening on (http://127\.0\.0\.1:\d+)\n", line)
        assert found, line + process.stderr.read()
        yield process, found[1]
    finally:
        process.kill()
        process.communicate()


def end(process, number):
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    return process.returncode, out, err


def test_it_starts_answers_and_ends_with_ctrl_c():
    arguments = ["--events", "3", "--now", "2025-03-14T00:00:00Z", "--api-key", "k", "--gateway-rps", "0"]
    with running(*arguments) as (process, url), httpx.Client(trust_env=False) as http:
        answer = http.get(f"{url}/calendly/users/me", headers={"Authorization": "Bearer k"})
        assert answer.json()["resource"]["name"] == "Alice Johnson"
        assert http.get(f"{url}/_sandbox/clock").json()["now"].startswith("2025-03-14T00:00")
        assert end(process, signal.SIGINT) == (0, "", "")


def test_a_hundred_thousand_events_start_in_a_moment_and_page_fast():
    arguments = ["--events", "100000", "--hosts", "100", "--rate-limit-per-minute", "0", "--gateway-rps", "0"]
    with running(*arguments) as (process, url):
        organization = "https://api.calendly.com/organizations/BBBBBBBBBBBBBBBB"
        query = {"organization": organization, "count": 100, "sort": "start_time:desc"}
        headers = {"Authorization": "Bearer sandbox-key"}
        with httpx.Client(base_url=url, headers=headers, trust_env=False) as http:
            assert http.get("/_sandbox/state").json()["scheduled_events"] > 100_000
            token, seen = {}, set()
            for _ in range(20):
                page = http.get("/calendly/scheduled_events", params={**query, **token}).json()
                seen |= {item["uri"] for item in page["collection"]}
                token = {"page_token": page["pagination"]["next_page_token"]}
        assert len(seen) == 2000
        assert end(process, signal.SIGTERM) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--plan", "gold"], "--plan"),
        (["--hosts", "0"], "hosts"),
        (["--now", "soon"], "soon"),
        (["--events", "5", "--invitees", "2"], "invitees"),
    ],
)
def test_a_bad_option_is_explained(arguments, words, capsys):
    from prefect_calendly.sandbox.__main__ import main

    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_a_port_that_is_taken_is_explained(server, capsys):
    from prefect_calendly.sandbox.__main__ import main

    assert main(["--events", "0", "--port", server.url.rpartition(":")[2]]) == 1
    assert "cannot listen" in capsys.readouterr().err


def test_the_fixture_for_users_own_tests(tmp_path):
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["prefect_calendly.sandbox.pytest"]\n')
    (tmp_path / "test_mine.py").write_text(
        """
import urllib.request

import pytest


@pytest.mark.parametrize("n", range(2))
def test_each_begins_anew(calendly_sandbox, n):
    assert calendly_sandbox.stats()["requests"] == 0
    headers = {"Authorization": f"Bearer {calendly_sandbox.api_key}"}
    for _ in range(30):
        request = urllib.request.Request(f"{calendly_sandbox.gateway_url}/users/me", headers=headers)
        assert urllib.request.urlopen(request).status == 200
"""
    )
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "-p", "no:asyncio"]
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert "2 passed" in done.stdout, done.stdout + done.stderr


# In a running sandbox


@pytest.fixture
def command(api, monkeypatch, capsys):
    """Runs a command against the sandbox; (exit code, what it prints, what it complains)."""
    from prefect_calendly.sandbox.__main__ import main

    monkeypatch.setenv("CALENDLY_SANDBOX_URL", api.sandbox.url)

    def run(*arguments):
        code = main(list(arguments))
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def test_booking_moving_missing_and_cancelling(api, command):
    def event(*arguments):
        code, out, err = command(*arguments)
        assert (code, err, out.count("\n")) == (0, "", 1)
        return api.resource(out.strip())

    booked = event("book", "eve@blocked.example")
    assert (booked["status"], booked["event_memberships"][0]["user"]) == ("active", api.alice)
    assert "2025-03-15" <= booked["start_time"] < "2025-03-22"
    (invitee,) = api.everything(f"{booked['uri']}/invitees")
    assert (invitee["email"], invitee["name"]) == ("eve@blocked.example", "eve")
    host = api.sandbox.add_user("Una Host", email="una@acme.example")["uri"]
    at = "2025-05-01T10:00:00+02:00"
    theirs = event("book", "bob@example.com", "--start", at, "--host", "una@acme.example", "--name", "Bob B")
    assert (theirs["start_time"], theirs["event_memberships"][0]["user"]) == ("2025-05-01T08:00:00.000000Z", host)
    (invitee,) = api.everything(f"{theirs['uri']}/invitees")
    assert invitee["name"] == "Bob B"

    moved = event("move", booked["uri"].rpartition("/")[2], "--start", "2025-05-02T10:00:00Z")
    assert (moved["start_time"], api.resource(booked["uri"])["status"]) == ("2025-05-02T10:00:00.000000Z", "canceled")
    again = event("move", moved["uri"])
    assert again["start_time"] == booked["start_time"]  # free again
    event("no-show", again["uri"])
    assert api.everything(f"{again['uri']}/invitees")[0]["no_show"] is not None
    event("no-show", again["uri"], "--undo")
    assert api.everything(f"{again['uri']}/invitees")[0]["no_show"] is None
    ended = event("cancel", again["uri"], "--reason", "ill")
    assert (ended["status"], ended["cancellation"]["canceler_type"]) == ("canceled", "invitee")
    ended = event("cancel", theirs["uri"], "--by", "host")
    assert ended["cancellation"]["canceler_type"] == "host"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["cancel", "NOTHING"], "no scheduled event 'NOTHING'"),
        (["move", "NOTHING"], "no scheduled event 'NOTHING'"),
        (["no-show", "NOTHING"], "no scheduled event 'NOTHING'"),
        (["cancel", "a b/ü"], "no scheduled event 'ü'"),
        (["book", "a@example.com", "--start", "soon"], "soon"),
        (["book", "a@example.com", "--host", "nobody"], "no user 'nobody'"),
        (["book", "a@example.com", "--url", "http://127.0.0.1:9"], "no sandbox is running at http://127.0.0.1:9"),
        (["book", "a@example.com", "--url", "127.0.0.1:9"], "'127.0.0.1:9' is not the URL of a sandbox"),
        (["book", "a@example.com", "--url", "file:///etc"], "is not the URL of a sandbox"),
        (["book", "a@example.com", "--url", "http://["], "'http://[' is not the URL of a sandbox"),
        (["book", "a@example.com", "--url", ""], "no sandbox given: use --url or set CALENDLY_SANDBOX_URL"),
    ],
)
def test_a_command_that_fails_says_why_in_one_line(command, arguments, words):
    code, out, err = command(*arguments)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert words in err


def test_another_server_is_not_taken_for_a_sandbox(command, far_end):
    code, _, err = command("book", "a@example.com", "--url", far_end.url)
    assert (code, err.count("\n")) == (1, 1)
    assert "not a sandbox, or one of another version: HTTP 200" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["book", "nobody"], "'nobody' is not an email address"),
        (["book"], "email"),
        (["cancel", ""], "give the identifier or URI of a scheduled event"),
        (["bok", "a@example.com"], "unknown command 'bok'; the commands are book, cancel, move, no-show"),
    ],
)
def test_a_command_that_is_misspelt_is_explained(command, arguments, words, capsys):
    with pytest.raises(SystemExit) as ended:
        command(*arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_a_clock_can_start_at_another_speed():
    with running("--events", "0", "--clock-speed", "3600") as (process, url), httpx.Client(trust_env=False) as http:
        assert http.get(f"{url}/_sandbox/clock").json()["speed"] == 3600
        assert end(process, signal.SIGINT) == (0, "", "")
