"""Apply deployments/automations.yaml, or another such file: `python -m deployments.automations [file]`."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from prefect.client.orchestration import PrefectClient, get_client
from prefect.events import AutomationCore
from prefect.exceptions import ObjectNotFound

from deployments.check import automations as check
from deployments.check import server
from deployments.files import AUTOMATIONS, read_yaml


class BlockMissingError(Exception):
    """An automation names a block that does not exist."""


async def apply(path: Path = AUTOMATIONS) -> list[str]:
    """Create the automations of a file, or update those of the same name.

    Args:
        path: A file as `prefect automation create --from-file` reads it.

    Returns:
        Their names.

    Raises:
        BlockMissingError: One sends a message through a block that does not exist; nothing was changed.
    """
    written = read_yaml(path)["automations"]
    async with get_client() as client:
        ids = {slug: await _block_id(client, slug) for slug in check.blocks_of(written)}
        wanted = [AutomationCore.model_validate(check.with_block_ids(each, ids)) for each in written]
        for automation in wanted:
            there = await client.read_automations_by_name(automation.name)
            if not there:
                await client.create_automation(automation)
            # Without a reason for an update: it makes the server forget from which runs it expects heartbeats.
            elif AutomationCore.model_validate(there[0].model_dump()) != automation:
                await client.update_automation(there[0].id, automation)
            for double in there[1:]:
                await client.delete_automation(double.id)
    return [automation.name for automation in wanted]


async def _block_id(client: PrefectClient, slug: str) -> str:
    kind, _, name = slug.partition("/")
    try:
        return str((await client.read_block_document_by_name(name, kind, include_secrets=False)).id)
    except ObjectNotFound:
        raise BlockMissingError(
            f"block {slug}: does not exist; save one in the UI (Blocks → +), or name another in the file"
        ) from None


def main() -> int:
    """Apply a file; if that is impossible, print the problems, one a line, and return 1."""
    parser = argparse.ArgumentParser(prog="python -m deployments.automations", description="Apply automations.")
    parser.add_argument("file", nargs="?", type=Path, default=AUTOMATIONS)
    options = parser.parse_args()
    if found := check.problems(options.file) or asyncio.run(server.connection_problems()):
        print(*found, sep="\n", file=sys.stderr)
        return 1
    try:
        print(*asyncio.run(apply(options.file)), sep="\n")
    except BlockMissingError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
