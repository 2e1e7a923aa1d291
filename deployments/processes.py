"""Free ports, and processes that end together: those of `make up`, the demo, the tests and the benchmarks.

Every process of ours carries the variable `MARK` with the folder that it works for, and its own children inherit it. So
all of them can be found, also a flow run, which has a session of its own and outlives its worker. A watchdog ends them
if the process that started them is killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil

MARK: Final = "PREFECT_CALENDLY_UP"
_LOOK_EVERY_SECONDS: Final = 0.5
_PATIENCE_SECONDS: Final = 60
_SWEEP_SECONDS: Final = 10


def is_free(port: int) -> bool:
    """Say whether a server may listen on a port of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_port(wanted: int = 0) -> int:
    """Return the wanted port if it is free, else any free one."""
    if wanted and is_free(wanted):
        return wanted
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def end_all(home: Path) -> None:
    """Kill every process that is marked with a folder, but this one."""
    deadline = time.monotonic() + _SWEEP_SECONDS
    # More than once: one that is killed may just have started another.
    while (left := _marked_with(home)) and time.monotonic() < deadline:
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=_SWEEP_SECONDS)


@contextlib.contextmanager
def contained(home: Path, *, with_parent: bool = False) -> Iterator[None]:
    """Run the block, then kill every process that is marked with a folder; also if this process is killed inside.

    Args:
        home: The folder.
        with_parent: Whether this process shall end, by SIGTERM, when its own parent does.
    """
    watchdog = start_watchdog(home, with_parent=with_parent)
    try:
        yield
    finally:
        end_all(home)
        watchdog.kill()
        watchdog.wait()


def start_watchdog(home: Path, *, with_parent: bool = False) -> subprocess.Popen[bytes]:
    """Start a process that waits until this one has ended, and then kills every process that is marked with a folder.

    Args:
        home: The folder.
        with_parent: As in `contained`.
    """
    command = [sys.executable, "-m", "deployments.processes", str(home), str(os.getpid())]
    return subprocess.Popen(  # noqa: S603  (our own module)
        [*command, *[str(os.getppid())] * with_parent],
        cwd=Path(__file__).parent.parent,
        # Not marked: it would kill itself for somebody else's folder.
        env={name: value for name, value in os.environ.items() if name != MARK},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # Ctrl-C in the terminal is not for the watchdog.
        start_new_session=True,
    )


def _watch(home: Path, starter: int, parent_of_starter: int = 0) -> None:
    """Wait for the end of the process that has started this one, then kill what is marked.

    `getppid` tells on every Unix, also while the dead process has not been waited for, and its ID is not used again.
    """
    parent = None
    with contextlib.suppress(psutil.Error):  # 0 in a container that the process was brought into from outside
        parent = psutil.Process(parent_of_starter) if parent_of_starter else None
    deadline = None
    while os.getppid() == starter:
        if deadline is None and parent is not None and not _lives(parent):
            os.kill(starter, signal.SIGTERM)
            deadline = time.monotonic() + _PATIENCE_SECONDS
        if deadline is not None and time.monotonic() > deadline:
            os.kill(starter, signal.SIGKILL)
        time.sleep(_LOOK_EVERY_SECONDS)
    end_all(home)


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _marked_with(home: Path) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if process.pid != os.getpid() and _mark(process) == str(home)]


def _mark(process: psutil.Process) -> str | None:
    try:
        mark = process.environ().get(MARK)
    except psutil.Error:
        return None
    return None if mark is None else str(mark)


if __name__ == "__main__":
    _watch(Path(sys.argv[1]), *map(int, sys.argv[2:]))
