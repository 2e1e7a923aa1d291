"""Check a file of automations, and the blocks that their messages are sent through."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from prefect.events import AutomationCore

from deployments.check.validation import did_you_mean, problems_against, read, unknown_keys
from deployments.files import AUTOMATIONS
from deployments.schema import ACTIONS

BLOCK_SLUG: Final = re.compile(r"[a-z0-9-]+/[a-z0-9-]+")
"""Type and name of a saved block."""
_ACTION_LISTS: Final = ("actions", "actions_on_trigger", "actions_on_resolve")


def problems(path: Path = AUTOMATIONS) -> list[str]:
    """Say what is wrong with an automations file.

    Args:
        path: A file as `deployments.automations` and `prefect automation create --from-file` read it.

    Returns:
        One line per problem: where it is and what to do. Empty if all is well.
    """
    raw = read(path)
    if isinstance(raw, str):
        return [raw]
    found = unknown_keys(raw, {"automations"}, "")
    for number, automation in enumerate(raw.get("automations") or []):
        where = f"automations[{number}]."
        wrong = list(_wrong_types(automation, where))
        # Prefect takes an action of any type. The other mistakes in one whose type is wrong would only confuse.
        found += wrong or problems_against(AutomationCore, with_block_ids(automation, {}), where)
    return found


def _wrong_types(automation: Any, where: str) -> Iterator[str]:
    for key in _ACTION_LISTS:
        actions = automation.get(key) if isinstance(automation, dict) else None
        for number, action in enumerate(actions if isinstance(actions, list) else []):
            kind = action.get("type") if isinstance(action, dict) else None
            if kind not in ACTIONS:
                said = f"must be one of {', '.join(sorted(ACTIONS))}"
                yield f"{where}{key}[{number}].type: {said}{did_you_mean(kind, ACTIONS) if kind else ''}"


def blocks_of(automations: list[dict[str, Any]]) -> list[str]:
    """Return type and name of the blocks that automations without problems send messages through."""
    actions = [action for automation in automations for action in automation["actions"]]
    named = [str(action.get("block_document_id")) for action in actions]
    return [name for name in dict.fromkeys(named) if BLOCK_SLUG.fullmatch(name)]


def with_block_ids(automation: Any, ids: Mapping[str, str]) -> Any:
    """Put IDs where an automation names blocks by type and name, which Prefect does not read.

    Args:
        automation: As it is written.
        ids: By type and name. A block that is missing here gets an ID that is no block's, for a check.

    Returns:
        A copy.
    """
    if not isinstance(automation, dict) or not isinstance(automation.get("actions"), list):
        return automation
    return {**automation, "actions": [_with_block_id(action, ids) for action in automation["actions"]]}


def _with_block_id(action: Any, ids: Mapping[str, str]) -> Any:
    if not isinstance(action, dict) or not BLOCK_SLUG.fullmatch(str(name := action.get("block_document_id"))):
        return action
    return {**action, "block_document_id": ids.get(str(name), str(UUID(int=0)))}
