"""`make test` again and again, on an idle machine and on a busy one: does it ever fail, how long does it take?

python -m tests.endurance.repeat --runs 20 --busy 10
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import psutil

from tests.support import ROOT

BUSY_LOOPS = 2
SECONDS_TO_END = 5  # the watchdog looks once a second whether its program is there


class Run(NamedTuple):
    """How one run of `make test` ended."""

    busy: bool
    seconds: float
    passed: bool
    summary: str
    left: list[str]
    """Command lines of processes that it left behind."""


@contextmanager
def busy_loop() -> Iterator[None]:
    """Keep one CPU busy."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def run(*, busy: bool) -> Run:
    """Run `make test` once, with busy loops beside it if `busy`."""
    before = {process.pid for process in psutil.process_iter()}
    with ExitStack() as stack:
        for _ in range(BUSY_LOOPS if busy else 0):
            stack.enter_context(busy_loop())
        began = time.monotonic()
        # The ARGS of a `make` around this program are for this program.
        done = subprocess.run(["make", "test", "ARGS="], cwd=ROOT, capture_output=True, text=True)
        seconds = time.monotonic() - began
    counts = re.findall(r"^=*\s*(\d+ (?:passed|failed).*?)\s*=*$", done.stdout, re.MULTILINE)
    if done.returncode:
        print(done.stdout[-5_000:], done.stderr[-2_000:], flush=True)
    return Run(busy, seconds, done.returncode == 0, counts[-1] if counts else "no summary", _left(before))


def _left(before: set[int]) -> list[str]:
    """Return what still runs from the virtual environment of the tests after some seconds, and did not before."""
    until = time.monotonic() + SECONDS_TO_END
    while (found := _running(before)) and time.monotonic() < until:
        time.sleep(0.2)
    return found


def _running(before: set[int]) -> list[str]:
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        command = " ".join(process.info["cmdline"] or [])
        if process.pid not in before and str(ROOT) in command:
            found.append(command)
    return found


def main() -> int:
    """Run the tests as often as asked, and print a line for each run; 1 if any failed or left a process behind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, help="how many runs in all")
    parser.add_argument("--busy", type=int, default=10, help=f"how many of them beside {BUSY_LOOPS} busy loops")
    options = parser.parse_args()
    bad = 0
    for number in range(1, options.runs + 1):
        result = run(busy=number > options.runs - options.busy)
        bad += not result.passed or bool(result.left)
        machine, word = "busy" if result.busy else "idle", "green" if result.passed else "RED"
        left = f", LEFT BEHIND: {result.left}" if result.left else ""
        print(f"{number:2} {machine} {result.seconds:6.0f} s {word}: {result.summary}{left}", flush=True)
    print(f"{options.runs - bad} of {options.runs} runs green, and no process left")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
