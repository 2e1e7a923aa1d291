"""The demo does what it says, and leaves the key nowhere: not in its output, its files, or Prefect's database."""

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import pytest

pytestmark = pytest.mark.stack

ROOT = Path(__file__).parent.parent.parent
KEY = "demo-key-6Zx9Qw2LmR8tVb4N"


def run_demo(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the demo as `make demo` does, in a process of its own."""
    command = [sys.executable, "-m", "deployments.demo", "--home", str(home), *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300
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


def test_ctrl_c_ends_it_at_once_and_leaves_no_process_behind(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-m", "deployments.demo", "--home", str(tmp_path / "home"), "--events", "40"]
    with log.open("w") as output:
        demo = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, start_new_session=True)
    try:
        while "Starting temporary server" not in log.read_text() and demo.poll() is None:
            time.sleep(0.1)
        os.killpg(demo.pid, signal.SIGINT)
        assert demo.wait(timeout=60) == 128 + signal.SIGINT
        assert "Stopped" in log.read_text()
        deadline = time.monotonic() + 30
        while _is_there(demo.pid) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not _is_there(demo.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(demo.pid, signal.SIGKILL)


def _is_there(group: int) -> bool:
    """Whether any process of a group is still there."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
