"""The demo does what it says, and leaves the key nowhere: not in its output, its files, or Prefect's database."""

import base64
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import httpx
import psutil
import pytest

from deployments.processes import end_all
from tests.support import ROOT, processes_of, until

pytestmark = pytest.mark.stack

KEY = "demo-key-6Zx9Qw2LmR8tVb4N"


def run_demo(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the demo as `make demo` does, in a process of its own."""
    command = [sys.executable, "-m", "deployments.demo", "--home", str(home), *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=900
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    home = tmp_path_factory.mktemp("demo")
    return home, run_demo(home, "--events", "60", "--sandbox-key", KEY)


def test_the_demo_passes_and_ends_with_a_summary(demo: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    home, done = demo
    assert done.returncode == 0, done.stdout + done.stderr
    summary = done.stdout[done.stdout.index("\ncancel_blocked_domains\n") :]
    for words in ("decided", "changed", "requests", "seconds", "artifact", "the sandbox says happened", "the same"):
        assert words in summary
    assert list((home / "artifacts").glob("*.md"))
    assert all(json.loads(table.read_text()) for table in (home / "artifacts").glob("*.json"))


def test_the_key_is_in_no_output_file_or_database_row(demo: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    home, done = demo
    forms = {KEY, quote(KEY), KEY[::-1], base64.b64encode(KEY.encode()).decode().rstrip("="), KEY.encode().hex()}
    assert not [form for form in forms if form in done.stdout + done.stderr]
    searched = [path for path in home.rglob("*") if path.is_file()]
    assert any(path.name == "prefect.db" and path.stat().st_size for path in searched)
    for path in searched:
        content = path.read_bytes()
        assert not [form for form in forms if form.encode() in content], path


def test_the_artifacts_show_no_whole_address(demo: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    home, _ = demo
    canceled = "".join(path.read_text() for path in (home / "artifacts").glob("cancel*"))
    assert "@" in canceled
    # The page's words may break before an @.
    assert all(before.removesuffix("\u200b").endswith("…") for before in canceled.split("@")[:-1])


def test_the_live_demo_without_a_key_says_what_to_do(tmp_path: Path) -> None:
    done = run_demo(tmp_path, "--gateway", "live")
    assert done.returncode == 2
    assert "MATON_API_KEY" in done.stderr


@pytest.mark.parametrize(
    ("how", "when"), [(signal.SIGINT, "Beginning flow run"), (signal.SIGKILL, "Starting a Prefect server")]
)
def test_ended_in_the_middle_it_leaves_no_process_behind(how: signal.Signals, when: str, tmp_path: Path) -> None:
    log, home = tmp_path / "log", tmp_path / "home"
    command = [sys.executable, "-m", "deployments.demo", "--home", str(home), "--events", "40"]
    with log.open("w") as output:
        demo = psutil.Popen(command, cwd=ROOT, stdout=output, stderr=output, start_new_session=True)
    try:
        until(lambda: when in log.read_text() or demo.poll() is not None, 300)
        started = until(lambda: found if len(found := demo.children()) == 3 else [])  # sandbox, server and watchdog
        if when == "Beginning flow run":  # its server answers, but not to a page that is open in a browser
            (api,) = {environment["PREFECT_API_URL"] for environment in map(psutil.Process.environ, started)}
            assert httpx.post(f"{api}/artifacts/filter", json={}, trust_env=False, timeout=60).status_code == 401
        os.killpg(demo.pid, how)
        assert demo.wait(timeout=60) == (128 + how if how == signal.SIGINT else -how)
        assert ("Stopped. Nothing is left running" in log.read_text()) is (how == signal.SIGINT)
        assert "Traceback" not in log.read_text()
        assert psutil.wait_procs(started, timeout=30)[1] == []
        assert processes_of(home) == []
    finally:
        if demo.poll() is None:
            demo.kill()
        end_all(home)
