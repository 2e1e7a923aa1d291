"""Start everything on this machine (`make up`): sandbox, Prefect server with UI, receiver, worker, deployments.

All data is in one folder, and all processes end together: Ctrl-C leaves none behind. A second start uses the database,
the key and the ports of the first.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import re
import secrets
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, TextIO

from honcho.manager import Manager
from honcho.printer import Message, Printer

from deployments.files import ROOT
from deployments.local import own_environment, sandbox_command
from deployments.own_server import server_settings
from deployments.processes import contained, end_all, free_port, is_free

SIGNING_KEY_BLOCK = "calendly-signing-key"  # as in prefect.yaml
_LOG_LINE = re.compile(r"(\d\d:\d\d:\d\d)\.\d+ \| (?:INFO +|(\w+) +)\| Flow run '(.*?)' - (.*)")
_OF_PREFECT = (
    "Running 1 deployment pull step",
    "Executing deployment step",
    "Deployment step",
    "All deployment steps",
    "Beginning flow run",
    "View at",
)


class Refused(Exception):
    """It cannot start; the message says why, in one line."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


class Terminal(Printer):  # type: ignore[misc]
    """Shows what is of interest to a person, and writes everything to one file per process."""

    def __init__(self, logs: Path) -> None:
        super().__init__()
        logs.mkdir(mode=0o700, exist_ok=True)  # setup prints links with the server's password
        self._logs = logs
        self._files: dict[str, TextIO] = {}
        self.first_to_stop: str | None = None

    def write(self, message: Message) -> None:
        text = message.data.decode("utf-8", "replace") if isinstance(message.data, bytes) else message.data
        if message.name not in self._files:
            self._files[message.name] = (self._logs / f"{message.name}.log").open("w", encoding="utf-8")
        self._files[message.name].write(text)
        self._files[message.name].flush()
        if message.name == "setup":
            print(text, end="", flush=True)
        elif message.name == "system" and self.first_to_stop is None and " stopped (" in text:
            self.first_to_stop = text.partition(" ")[0]
        elif message.name == "worker" and (line := _LOG_LINE.match(text)) and not line[4].startswith(_OF_PREFECT):
            print(f"  {line[1]} {line[2] + ' ' if line[2] else ''}{line[3]}: {line[4]}", flush=True)


def main() -> int:
    """Run everything until it is stopped; return 0 after Ctrl-C, 1 for a failure, 2 for a bad argument."""
    parser = Parser(prog="make up", description=__doc__)
    parser.add_argument("--home", type=Path, default=Path(".up"), help="folder of its state and logs (default: .up)")
    parser.add_argument("--port", type=_port, help="of the Prefect server (default: last time's, 4200 or a free one)")
    parser.add_argument("--events", type=int, default=300, help="scheduled events in the sandbox (default: 300)")
    parser.add_argument("--no-schedules", action="store_true", help="the server makes no run by itself")
    parser.add_argument("--no-runs", action="store_true", help="start no runs")
    options = parser.parse_args()
    home = options.home.resolve()
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _only_one(home):
            end_all(home)  # in case its watchdog was killed too
            state = _state(home, options.port)
            with contained(home, with_parent=True):
                return _run(home, state, options)
    except (Refused, OSError) as error:
        print(f"make up: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port; give a number from 1 to 65535")
    return int(text)


@contextlib.contextmanager
def _only_one(home: Path) -> Iterator[None]:
    with (home / "lock").open("w") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not `flock`, which honcho's forks would keep
        except OSError:
            raise Refused(f"already running in {home}: stop it, or give another folder with --home") from None
        yield


def _state(home: Path, port: int | None) -> dict[str, Any]:
    """Return ports, key and password: those of the last time, where the ports are still free."""
    path = home / "state.json"
    try:
        state: dict[str, Any] = {"sandbox_key": secrets.token_urlsafe(24), "password": secrets.token_hex(16)}
        if path.exists():
            state |= json.loads(path.read_text())
    except ValueError:
        raise Refused(f"{path} cannot be read: make clean removes it, and all data") from None
    if port is not None and not is_free(port):
        raise Refused(f"port {port} is in use: set another one with make up PORT=…, or none for a free one")
    state["port"] = port or free_port(state.get("port", 4200))
    for name in ("sandbox_port", "receiver_port"):
        state[name] = free_port(state.get(name, 0))
    path.touch(mode=0o600)
    path.write_text(json.dumps(state))
    return state


def _run(home: Path, state: dict[str, Any], options: argparse.Namespace) -> int:
    api, sandbox, receiver = (f"http://127.0.0.1:{state[name]}" for name in ("port", "sandbox_port", "receiver_port"))
    environment = own_environment(
        home,
        **server_settings(state["port"], state["password"]),
        PWD=str(ROOT),  # where the workers find the flows, see prefect.yaml
        PYTHONUNBUFFERED="1",
        PREFECT_SERVER_UI_STATIC_DIRECTORY=str(home / "ui"),
        PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT="false",
        PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED=str(not options.no_schedules).lower(),
        PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE="200",
        PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE="200",
        PREFECT_WORKER_QUERY_SECONDS="2",
    )
    for name in [name for name in environment if name.startswith("MATON_")]:
        del environment[name]  # nothing here may reach the real gateway
    ready, go = home / "up.json", home / "worker-may-start"
    for path in (ready, go):
        path.unlink(missing_ok=True)
    terminal = Terminal(home / "logs")
    manager = Manager(terminal)

    def add(name: str, *arguments: str, first: str = "") -> None:
        command = f"{first}exec {shlex.join([sys.executable, *arguments])}"
        manager.add_process(name, command, env=environment, cwd=str(ROOT))

    add("sandbox", *sandbox_command(options.events, state["sandbox_key"], state["sandbox_port"]))
    add("server", "-m", "prefect", "server", "start")
    add("setup", "-m", "deployments.setup", str(home), api, sandbox, receiver, *["--no-runs"] * options.no_runs)
    wait = f"until [ -e {shlex.quote(str(go))} ]; do sleep 0.2; done; "
    receiving = ["--port", str(state["receiver_port"]), "--signing-key-block", SIGNING_KEY_BLOCK]
    receiving += ["--store", f"sqlite:///{home / 'receiver.db'}"]
    add("receiver", "-m", "prefect_calendly.webhooks", *receiving, first=wait)
    add("worker", "-m", "prefect", "worker", "start", "--pool", "calendly", "--type", "process", first=wait)
    # Closing the terminal stops everything too.
    signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    print(f"▸ Starting; the logs are in {home / 'logs'} …", flush=True)
    try:
        manager.loop()
    except KeyError:  # honcho was stopped before it had started everything
        manager.returncode = 128 + signal.SIGINT
    finally:
        ready.unlink(missing_ok=True)
    if manager.returncode in (128 + signal.SIGINT, 128 + signal.SIGTERM):
        print(
            "▸ Stopped; nothing is left running. `make up` continues from here, `make clean` deletes it.",
            flush=True,
        )
        # Ctrl-C is how a person ends it; make would report anything but 0 as an error.
        return 0 if manager.returncode == 128 + signal.SIGINT else int(manager.returncode)
    if (culprit := terminal.first_to_stop) != "setup":  # setup prints the reason itself
        print(f"make up: {culprit} has ended, so all was stopped; see {home}/logs/{culprit}.log", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
