"""prefect.yaml fits the flows: Prefect itself ignores what it does not know."""

import inspect
import typing
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import Flow
from prefect.flows import load_flow_from_entrypoint
from pydantic import TypeAdapter

from prefect_calendly import CalendlyCredentials
from prefect_calendly.deploy_steps import filled_in

ROOT = Path(__file__).parent.parent
WRITTEN = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", [deployment["name"] for deployment in WRITTEN["deployments"]])
def test_a_deployment_gives_its_flow_what_it_takes(
    name: str, credentials: CalendlyCredentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    deployment: dict[str, Any] = next(each for each in filled_in(WRITTEN) if each["name"] == name)
    flow: Flow[..., Any] = load_flow_from_entrypoint(deployment["entrypoint"], use_placeholder_flow=False)
    types = typing.get_type_hints(flow.fn, include_extras=True)
    given = deployment.get("parameters", {})
    for name, value in given.items():
        assert name in types, f"{flow.name} has no parameter {name}"
        TypeAdapter(types[name]).validate_python(credentials if name == "credentials" else value)
    needed = {name for name, each in inspect.signature(flow.fn).parameters.items() if each.default is each.empty}
    triggered = {name for trigger in deployment.get("triggers", []) for name in trigger.get("parameters", {})}
    if deployment.get("schedules") or deployment.get("triggers"):
        assert needed <= {*given, *triggered}, "a run that nobody fills in a form for would fail"
