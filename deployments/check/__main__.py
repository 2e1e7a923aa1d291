"""The command: it prints one problem a line, and fails if there is any."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from deployments.check import automations, prefect_yaml, server
from deployments.check.changes import changes
from deployments.check.values import placeholders
from deployments.files import EVENT_AUTOMATIONS, FILE, deployments_of


def main() -> int:
    """Print the problems; return 1 if there are any, or if somebody says no to what a deploy would change."""
    parser = argparse.ArgumentParser(prog="python -m deployments.check", description="Check a deployments file.")
    parser.add_argument("file", nargs="?", type=Path, default=FILE)
    parser.add_argument(
        "--server",
        action="store_true",
        help="also ask the Prefect server for work pools and blocks, and say what a deploy would change there",
    )
    parser.add_argument("--ask", action="store_true", help="with --server: ask whether to change it")
    options = parser.parse_args()
    found = prefect_yaml.problems(options.file)
    if options.file == FILE:
        found += automations.problems() + automations.problems(EVENT_AUTOMATIONS)
    if not found:
        found = asyncio.run(server.problems(options.file)) if options.server else _placeholders(options.file)
    for problem in found:
        print(problem, file=sys.stderr)
    if found:
        return 1
    print(f"{options.file.name}: {len(deployments_of(options.file))} deployments, no problems")
    if options.server and (lines := asyncio.run(changes(options.file))):
        print("Deploying changes what is on the Prefect server:", *lines, sep="\n  ")
        if options.ask and sys.stdin.isatty() and input("Change it? [y/N] ").strip().lower() not in ("y", "yes"):
            print("Nothing was changed.", file=sys.stderr)
            return 1
    return 0


def _placeholders(path: Path) -> list[str]:
    return list(placeholders(deployments_of(path)))


if __name__ == "__main__":
    sys.exit(main())
