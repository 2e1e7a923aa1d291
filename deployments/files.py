"""The files that say what is deployed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parent.parent
"""The project: `prefect deploy` is run here, and the entrypoints are relative to it."""
FILE: Final = ROOT / "deployments" / "prefect.yaml"
AUTOMATIONS: Final = ROOT / "deployments" / "automations.yaml"
EVENT_AUTOMATIONS: Final = ROOT / "deployments" / "event-automations.yaml"


def deployments_of(path: Path = FILE) -> list[dict[str, Any]]:
    """Return the deployments of a file that `deployments.check` finds no problem in, as they are written."""
    return list(yaml.safe_load(path.read_text(encoding="utf-8"))["deployments"])
