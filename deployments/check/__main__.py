"""The command: it prints one problem a line, and fails if there is any."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from deployments.check import automations, prefect_yaml, server
from deployments.files import EVENT_AUTOMATIONS, FILE, deployments_of


def main() -> int:
    """Print the problems; return 1 if there are any."""
    parser = argparse.ArgumentParser(prog="python -m deployments.check", description="Check a deployments file.")
    parser.add_argument("file", nargs="?", type=Path, default=FILE)
    parser.add_argument("--server", action="store_true", help="also ask the Prefect server for work pools and blocks")
    options = parser.parse_args()
    found = prefect_yaml.problems(options.file)
    if options.file == FILE:
        found += automations.problems() + automations.problems(EVENT_AUTOMATIONS)
    if options.server and not found:
        found = asyncio.run(server.problems(options.file))
    for problem in found:
        print(problem, file=sys.stderr)
    if not found:
        print(f"{options.file.name}: {len(deployments_of(options.file))} deployments, no problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
