"""The files that say what is deployed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parent.parent
"""The project: `prefect deploy` is run here, and the entrypoints are relative to it."""
FILE: Final = ROOT / "deployments" / "prefect.yaml"
VALUES: Final = "deployments/values.yaml"
"""Values of one's own for that file, as it names them."""
EXAMPLE_VALUES: Final = "deployments/values.example.yaml"
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


def deployments_of(path: Path = FILE, *, server: bool = False) -> list[dict[str, Any]]:
    """Return the deployments of a file that `deployments.check` finds no problem in, as `prefect deploy` makes them.

    Args:
        path: The file; paths in it are seen from the current folder, as `prefect deploy` sees them.
        server: Whether to ask the Prefect server how schedules are switched there; if not, they are as at first.
    """
    from prefect_calendly.deploy_steps import filled_in  # imports Prefect, which not all who need this file may do yet

    return filled_in(read_yaml(path), server=server)
