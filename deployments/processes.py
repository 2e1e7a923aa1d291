"""Ports that are free, and processes that are ours: what `make up` and the scale test share."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

import psutil

MARK = "PREFECT_CALENDLY_UP"
"""Variable that all our processes carry: that of a flow run has a session of its own, and outlives its worker."""


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
    """Return the port that is wanted if it is free, else any free one."""
    if wanted and is_free(wanted):
        return wanted
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def end_all(home: Path) -> None:
    """End every process whose MARK is this folder, whoever its parent is now."""
    left = [process for process in psutil.process_iter() if process.pid != os.getpid() and _is_ours(process, home)]
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, timeout=10)


def _is_ours(process: psutil.Process, home: Path) -> bool:
    try:
        return bool(process.environ().get(MARK) == str(home))
    except psutil.Error:
        return False
