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
name: {name}

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

    def in_project(self) -> str:
        """Return its text for a new project: the schedule of one that writes is there, but switched off."""
        if "writes" not in self.values["tags"]:
            return self.text
        return re.sub(r"^( +- \{slug: [^}]*)\}$", r"\1, active: false}", self.text, flags=re.MULTILINE)


def available_flows() -> list[str]:
    """Return the names of the flows that a project can be made of, in the order of the shipped file."""
    _, deployments = _shipped()
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
    _, deployments = _shipped()
    return list(dict.fromkeys(each.flow for each in deployments if each.flow in wanted))


def deployments_file(flows: Collection[str], project: str) -> str:
    """Return the text of a project's `prefect.yaml`.

    Args:
        flows: Names of its flows.
        project: Its name.
    """
    definitions, deployments = _shipped()
    chosen = [each.in_project().rstrip() for each in deployments if each.flow in flows]
    return _HEAD.format(name=json.dumps(project)) + definitions + "deployments:\n" + "\n\n".join(chosen) + "\n"


def names_of_deployments(flows: Collection[str]) -> list[str]:
    """Return `flow/deployment` of each deployment of these flows, without the internal ones."""
    _, deployments = _shipped()
    chosen = [each for each in deployments if each.flow in flows and not each.internal]
    return [f"{each.flow.replace('_', '-')}/{each.values['name']}" for each in chosen]


def _shipped() -> tuple[str, list[_Deployment]]:
    """Return what the deployments of the shipped file share, and each of them."""
    text = DEPLOYMENTS.read_text(encoding="utf-8")
    before, _, listed = text.partition("\ndeployments:\n")
    shared = re.findall(r"^(?:#.*\n)*definitions:\n(?:[ #].*\n|\n)*", before + "\n", flags=re.MULTILINE)
    texts = re.split(r"^(?=  - name: )", listed, flags=re.MULTILINE)[1:]
    values = yaml.safe_load(text)["deployments"]
    return "".join(shared), [_Deployment(*each) for each in zip(texts, values, strict=True)]
