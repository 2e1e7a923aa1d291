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


_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The one in C, where PyYAML has it: it takes a tenth of the time."""


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    Raises:
        OSError, UnicodeError, yaml.YAMLError: It cannot be read.
    """
    return yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506  (both loaders are safe)


def deployments_of(path: Path = FILE) -> list[dict[str, Any]]:
    """Return the deployments of a file that `deployments.check` finds no problem in, as they are written."""
    return list(read_yaml(path)["deployments"])
