"""Build steps of a `prefect.yaml`: values from a file of your own, and switches that stay as a person has set them.

`prefect deploy` runs them before each deployment, and puts what they return in place of `{{ … }}`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.utilities.templating import apply_values


def read_values(file: str, otherwise: str | None = None) -> dict[str, Any]:
    """Return the values of a YAML file: a build step.

    Args:
        file: Path of the file, from the folder that you deploy from.
        otherwise: Path of the file to read where there is no such file.

    Returns:
        The values by their names; with `id: values`, `{{ values.timezone }}` is one of them. Prefect leaves out a
        parameter whose value is empty or not there.

    Raises:
        OSError, UnicodeError, yaml.YAMLError: The file cannot be read.
        ValueError: It is no mapping.

    Example:
        ```yaml
        build:
          - prefect_calendly.deploy_steps.read_values:
              id: values
              file: values.yaml
        ```
    """
    path = Path(file)
    if otherwise is not None and not path.is_file():
        path = Path(otherwise)
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise ValueError(f"{path}: must be a mapping of names to values")
    return {name: value for name, value in values.items() if value is not None}


def keep_switches(on_at_first: Iterable[str] = (), off_at_first: Iterable[str] = ()) -> dict[str, dict[str, bool]]:
    """Return which schedules and triggers are switched on: a build step.

    Without it, each deploy would switch them back to what the file says, also where a person has switched them on or
    off in the UI.

    Source: `POST /deployments/filter` and `POST /automations/filter` of the Prefect server.

    Args:
        on_at_first: What is on when it is made: each schedule as `deployment/slug`, each trigger as
            `deployment/trigger-1`, counted from 1.
        off_at_first: What is off until a person switches it on.

    Returns:
        Whether each is on, by deployment and slug: as it is on the Prefect server, and as given here if the server does
        not have it. With `id: switches`, `active: "{{ switches.poll-bookings.every-five-minutes }}"` is one of them.

    Example:
        ```yaml
        build:
          - prefect_calendly.deploy_steps.keep_switches:
              id: switches
              off_at_first: [poll-bookings/every-five-minutes]
        ```
    """
    switches = first_switches(on_at_first, off_at_first)
    names = DeploymentFilter(name=DeploymentFilterName(any_=list(switches)))
    with get_client(sync_client=True) as client:
        for deployment in client.read_deployments(deployment_filter=names):
            known = switches[deployment.name]
            known.update({each.slug: is_on(deployment, each) for each in deployment.schedules if each.slug in known})
        for name, known in switches.items():
            for number in (slug.removeprefix("trigger-") for slug in list(known) if slug.startswith("trigger-")):
                for automation in client.read_automations_by_name(f"{name}__automation_{number}"):
                    known[f"trigger-{number}"] = automation.enabled
    return switches


def is_on(deployment: DeploymentResponse, schedule: DeploymentSchedule) -> bool:
    """Return whether a schedule makes runs: it is active, and nobody has paused its deployment.

    `prefect deploy` resumes what is paused, so a paused deployment is deployed with its schedules off. What is served
    from a process is paused whenever that process ends, which is not what a person wants.

    Args:
        deployment: As the Prefect server has it.
        schedule: One of its schedules.
    """
    return schedule.active and not (deployment.paused and deployment.work_pool_name)


def first_switches(on_at_first: Iterable[str] = (), off_at_first: Iterable[str] = ()) -> dict[str, dict[str, bool]]:
    """Return what `keep_switches` returns for a Prefect server without deployments.

    Args:
        on_at_first: As there.
        off_at_first: As there.
    """
    switches: dict[str, dict[str, bool]] = {}
    for active, names in ((True, on_at_first), (False, off_at_first)):
        for each in names:
            deployment, _, slug = each.partition("/")
            switches.setdefault(deployment, {})[slug] = active
    return switches


def filled_in(written: Mapping[str, Any], *, server: bool = False) -> list[dict[str, Any]]:
    """Return the deployments of a `prefect.yaml` as `prefect deploy` makes them, with what these steps return.

    Args:
        written: The file's content; paths in its steps are seen from the current folder.
        server: Whether to ask the Prefect server how schedules are switched there; if not, they are as at first.

    Raises:
        OSError, UnicodeError, yaml.YAMLError, ValueError: A file of values cannot be read.
        TypeError: A step is not written as it is to be.

    Example:
        ```python
        written = {"deployments": [{"name": "nightly", "entrypoint": "flows/nightly.py:nightly"}]}
        names = [deployment["name"] for deployment in filled_in(written)]
        ```
    """
    keep = keep_switches if server else first_switches
    functions: dict[str, Callable[..., dict[str, Any]]] = {"read_values": read_values, "keep_switches": keep}
    outputs: dict[str, Any] = {}
    for step in written.get("build") or []:
        for name, inputs in step.items():
            if function := functions.get(name.removeprefix(f"{__name__}.")):
                outputs[inputs["id"]] = function(**{key: value for key, value in inputs.items() if key != "id"})
    return [_filled_in(deployment, outputs) for deployment in written["deployments"]]


def _filled_in(deployment: dict[str, Any], outputs: dict[str, Any]) -> dict[str, Any]:
    """Put values in place of templates; those in parameters of triggers are for the Prefect server."""
    made = apply_values({key: value for key, value in deployment.items() if key != "triggers"}, outputs)
    if "triggers" in deployment:
        made["triggers"] = [_trigger(each, outputs) for each in deployment["triggers"]]
    return made


def _trigger(written: dict[str, Any], outputs: dict[str, Any]) -> dict[str, Any]:
    made = apply_values({key: value for key, value in written.items() if key != "parameters"}, outputs)
    return {**made, "parameters": written["parameters"]} if "parameters" in written else made
