"""Apply deployments/automations.yaml: `python -m deployments.automations [file]`."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

import yaml
from prefect.client.orchestration import get_client
from prefect.events import AutomationCore

from deployments.check import AUTOMATIONS as FILE
from deployments.check import automation_problems, no_server


async def apply(path: Path = FILE) -> list[str]:
    """Make the automations of a file, or bring those of the same name up to date.

    Args:
        path: A file as `prefect automation create --from-file` reads it.

    Returns:
        Their names.
    """
    wanted = [AutomationCore.model_validate(each) for each in yaml.safe_load(path.read_text())["automations"]]
    async with get_client() as client:
        for automation in wanted:
            there = await client.read_automations_by_name(automation.name)
            if not there:
                await client.create_automation(automation)
            # An update makes the server forget which runs it waits for a sign of life from.
            elif AutomationCore.model_validate(there[0].model_dump()) != automation:
                await client.update_automation(there[0].id, automation)
            for double in there[1:]:
                await client.delete_automation(double.id)
    return [automation.name for automation in wanted]


def main() -> int:
    """Apply a file; return 1 and say why in one line if that cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m deployments.automations", description="Apply automations.")
    parser.add_argument("file", nargs="?", type=Path, default=FILE)
    options = parser.parse_args()
    if found := automation_problems(options.file) or asyncio.run(no_server()):
        print(*found, sep="\n", file=sys.stderr)
        return 1
    for name in asyncio.run(apply(options.file)):
        print(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
