"""The ready flows: `prefect_calendly.flows.<name>.<name>` is the entrypoint of each.

In a wheel the flows' files, their deployments (`prefect.yaml`) and an example of its values lie in this folder. In a
clone they are in `flows/` and `deployments/`, where people read and change them: there the files are imported from
`flows/`, as they are now, and an editable install has no copy of them.
"""

from pathlib import Path
from typing import Final

_HERE = Path(__file__).parent
_CLONE = _HERE.parents[1]
_IN_WHEEL = (_HERE / "prefect.yaml").exists()

FOLDER: Final = _HERE if _IN_WHEEL else _CLONE / "flows"
"""Where the flows' files are."""
DEPLOYMENTS: Final = _HERE / "prefect.yaml" if _IN_WHEEL else _CLONE / "deployments" / "prefect.yaml"
"""What runs when: the deployments of the flows, as `prefect deploy` reads them."""
VALUES: Final = DEPLOYMENTS.with_name("values.example.yaml")
"""An example of the values that these deployments take."""

__path__ = [str(FOLDER)]
