"""The command line: one line when it is ready, a clean end; the commands for a running sandbox; the pytest fixture."""

from __future__ import annotations

import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from prefect_calendly.sandbox import SandboxControl
from prefect_calendly.sandbox.__main__ import main
from tests.sandbox.conftest import until


def test_its_options_are_those_of_the_sandbox_and_sigterm_ends_it_too(capsys):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    running = SandboxControl(f"http://127.0.0.1:{port}")

    def look_and_end():
        until(lambda: answers(running))  # so that its handler of signals is there
        try:
            return running.state(), running.control("GET", "/clock")
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    arguments = ["--events", "1000", "--hosts", "7", "--upcoming", "--now", "2025-03-14T00:00:00Z"]
    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look_and_end)
        assert main([*arguments, "--clock-speed", "3600", "--port", str(port)]) == 0
    state, clock = looking.result()
    assert (state["users"], state["scheduled_events"] > 1000) == (10, True)
    assert (clock["speed"], clock["now"][:10]) == (3600, "2025-03-14")
    assert capsys.readouterr() == (f"listening on {running.url}\n", "")


def answers(running):
    try:
        return running.stats()
    except OSError:
        return None


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
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_a_port_that_is_taken_is_explained(server, capsys):
    assert main(["--events", "0", "--port", server.url.rpartition(":")[2]]) == 1
    assert "cannot listen" in capsys.readouterr().err


def test_the_fixture_for_users_own_tests(pytester):
    pytester.makeconftest('pytest_plugins = ["prefect_calendly.sandbox.pytest"]')
    pytester.makepyfile(
        """
        import urllib.request

        import pytest


        @pytest.mark.parametrize("n", range(2))
        def test_each_begins_with_the_seeded_world(calendly_sandbox, n):
            assert calendly_sandbox.stats()["requests"] == 0
            headers = {"Authorization": f"Bearer {calendly_sandbox.api_key}"}
            for _ in range(30):
                request = urllib.request.Request(f"{calendly_sandbox.gateway_url}/users/me", headers=headers)
                with urllib.request.urlopen(request) as answer:
                    assert answer.status == 200
        """
    )
    # Within this process, where other tests have imported the fixture's module before.
    warnings = ["-W", "error", "-W", "ignore:Module already imported"]
    done = pytester.inline_run(*warnings, "-p", "no:cacheprovider", "-p", "no:asyncio", "-p", "no:xdist")
    done.assertoutcome(passed=2)


# In a running sandbox


@pytest.fixture
def command(api, monkeypatch, capsys):
    """Runs a command against the sandbox: (exit code, stdout, stderr)."""
    monkeypatch.setenv("CALENDLY_SANDBOX_URL", api.sandbox.url)
    api.sandbox.changed = True

    def run(*arguments):
        code = main(list(arguments))
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def test_booking_moving_missing_and_canceling(api, command):
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
def test_a_command_that_is_misspelled_is_explained(command, arguments, words, capsys):
    with pytest.raises(SystemExit) as ended:
        command(*arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
