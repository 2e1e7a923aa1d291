"""What the endurance programs share: processes that can be killed and restarted, and waiting for what they do."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parent.parent.parent
KEY: Final = "sandbox-key"
LONGEST_SECONDS: Final = 1_500


class FailedError(Exception):
    """The program cannot go on; the message says why."""


class Processes:
    """Processes by name, each of which can be stopped, killed and restarted."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._commands: dict[str, tuple[list[str], dict[str, str], str]] = {}
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: list[str], environment: dict[str, str], url: str) -> None:
        """Start a process, and wait until a URL of it answers.

        Args:
            name: Its name here, and of its log in the folder.
            command: Arguments for Python.
            environment: All its variables.
            url: Answers once the process is ready.

        Raises:
            FailedError: It ended, or did not answer within 5 minutes.
        """
        self._commands[name] = command, environment, url
        with (self._home / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [sys.executable, *command], cwd=ROOT, env=environment, stdout=log, stderr=log
            )
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and self._running[name].poll() is None:
            with contextlib.suppress(OSError):
                ask(url, seconds=5)
                return
            time.sleep(0.1)
        raise FailedError(f"{name} does not answer; its log ends with:\n{tail(self._home / f'{name}.log', 15)}")

    def end(self, name: str, how: signal.Signals) -> int:
        """End a process by a signal; return its exit code."""
        self._running[name].send_signal(how)
        return self._running[name].wait(timeout=60)

    def restart(self, name: str) -> None:
        """Start a process that has ended once more, as before."""
        self.start(name, *self._commands[name])

    def pid(self, name: str) -> int:
        """Return the process ID."""
        return self._running[name].pid


def tail(log: Path, lines: int = 25) -> str:
    """Return the last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def say(text: str) -> None:
    """Show a person how far the program is."""
    print(f"▸ {text}", flush=True)


def ask(url: str, body: Any = None, *, method: str | None = None, key: str = KEY, seconds: float = 120) -> Any:
    """Send a request to this machine, and return the JSON of its answer; None if the answer is empty.

    Args:
        url: The address.
        body: Sent as JSON. With a body the method is POST, without one GET.
        method: Another method.
        key: API key of the sandbox.
        seconds: Timeout.
    """
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    request = urllib.request.Request(url, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=seconds) as answer:
        content = answer.read()
    return json.loads(content) if content else None


def until(what: str, look: Callable[[], Any], seconds: float = LONGEST_SECONDS) -> Any:
    """Call `look` until it returns something true, and return that; refused connections are ignored meanwhile.

    Args:
        what: What is waited for, as the error says it.
        look: Asked every 0.2 s.
        seconds: How long.

    Raises:
        FailedError: It did not happen in time.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if found := look():
                return found
        time.sleep(0.2)
    raise FailedError(f"not within {seconds:.0f} s: {what}")


def metric(receiver: str, name: str) -> float:
    """Return a metric of the receiver, summed over its labels."""
    with urllib.request.urlopen(f"{receiver}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    return sum(
        float(value) for value in re.findall(rf"^calendly_webhook_{name}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE)
    )
