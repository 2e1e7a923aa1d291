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
