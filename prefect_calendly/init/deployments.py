"""Which deployments a project gets: the shipped file, cut down to the chosen flows, its comments kept."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

import yaml

from prefect_calendly.flows import DEPLOYMENTS

# Goes where the other goes: Prefect starts it when nobody has answered a run that waits for approval.
_COMPANIONS: Final = {"cancel_blocked_domains": "record_expired_approval"}

_HEAD: Final = """\
# What runs when. Deploy it from this folder, in a shell: prefect --no-prompt deploy --all
# It needs a work pool (prefect work-pool create calendly --type process) and the block calendly-credentials/main.
# Your own domains, URL and time zone are in values.yaml.
name: {name}

build:
  - prefect_calendly.deploy_steps.read_values: {{id: values, file: values.yaml}}
  # Whether a schedule or a trigger is on at first. Once deployed, it stays as a person has switched it.
  - prefect_calendly.deploy_steps.keep_switches:
      id: switches
      on_at_first:{on_at_first}
      off_at_first:{off_at_first}

# A worker on this machine runs the flows in the folder that you deploy from. For workers elsewhere, write a step that
# fetches them, such as prefect.deployments.steps.git_clone.
pull:
  - prefect.deployments.steps.set_working_directory:
      directory: "{{{{ $PWD }}}}"

"""


@dataclass(frozen=True, slots=True)
class _Deployment:
    """One deployment of the shipped file: as it is written, and as it is read."""

    text: str
    values: dict[str, Any]

    @property
    def flow(self) -> str:
        """Name of its flow, which its file and its function share."""
        return str(self.values["entrypoint"]).rpartition(":")[2]

    @property
    def internal(self) -> bool:
        return "internal" in self.values["tags"]


def available_flows() -> list[str]:
    """Return the names of the flows that a project can be made of, in the order of the shipped file."""
    deployments = _shipped().deployments
    return list(dict.fromkeys(each.flow for each in deployments if not each.internal))


def with_companions(flows: Collection[str]) -> list[str]:
    """Return flows and what must go along with them, in the order of the shipped file.

    Args:
        flows: Names of flows.

    Raises:
        ValueError: There is no flow of such a name.
    """
    if unknown := sorted(set(flows) - set(available_flows())):
        raise ValueError(f"no flow {', '.join(unknown)}: there are {', '.join(available_flows())}")
    wanted = {*flows, *(companion for flow, companion in _COMPANIONS.items() if flow in flows)}
    return list(dict.fromkeys(each.flow for each in _shipped().deployments if each.flow in wanted))


def deployments_file(flows: Collection[str], project: str) -> str:
    """Return the text of a project's `prefect.yaml`.

    Args:
        flows: Names of its flows.
        project: Its name.
    """
    shipped = _shipped()
    chosen = [each for each in shipped.deployments if each.flow in flows]
    names = {each.values["name"] for each in chosen}
    switches = {
        when: "".join(f"\n        - {each}" for each in listed if each.partition("/")[0] in names) or " []"
        for when, listed in shipped.switches.items()
    }
    head = _HEAD.format(name=json.dumps(project), **switches)
    return f"{head}{shipped.definitions}deployments:\n" + "\n\n".join(each.text.rstrip() for each in chosen) + "\n"


def names_of_deployments(flows: Collection[str]) -> list[str]:
    """Return `flow/deployment` of each deployment of these flows, without the internal ones."""
    chosen = [each for each in _shipped().deployments if each.flow in flows and not each.internal]
    return [f"{each.flow.replace('_', '-')}/{each.values['name']}" for each in chosen]


@dataclass(frozen=True, slots=True)
class _Shipped:
    """The shipped file, in parts."""

    definitions: str
    """What its deployments share, as it is written."""
    switches: dict[str, list[str]]
    """Which schedules and triggers are on and off at first, as its step has them."""
    deployments: list[_Deployment]


def _shipped() -> _Shipped:
    text = DEPLOYMENTS.read_text(encoding="utf-8")
    before, _, listed = text.partition("\ndeployments:\n")
    shared = re.findall(r"^(?:#.*\n)*definitions:\n(?:[ #].*\n|\n)*", before + "\n", flags=re.MULTILINE)
    texts = re.split(r"^(?=  - name: )", listed, flags=re.MULTILINE)[1:]
    values = yaml.safe_load(text)
    switches = next(inputs for step in values["build"] for inputs in step.values() if inputs["id"] == "switches")
    deployments = [_Deployment(*each) for each in zip(texts, values["deployments"], strict=True)]
    del switches["id"]
    return _Shipped("".join(shared), switches, deployments)
