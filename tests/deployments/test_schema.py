"""Our list of what Prefect reads in `prefect.yaml` is Prefect's own: its models are private, so only a test looks."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from prefect.events import AutomationCore
from pydantic import BaseModel, ValidationError

from deployments.files import FILE
from deployments.schema import (
    ACTIONS,
    ConcurrencyLimit,
    Deployment,
    DeploymentsFile,
    Schedule,
    WorkPool,
    keys_of,
)

prefect = pytest.importorskip("prefect.cli.deploy._models", reason="this Prefect keeps its models elsewhere")

MODELS: dict[type[BaseModel], str] = {
    DeploymentsFile: "PrefectYamlModel",
    Deployment: "DeploymentConfig",
    Schedule: "RawScheduleConfig",
    WorkPool: "WorkPoolConfig",
    ConcurrencyLimit: "ConcurrencyLimitSpec",
}
VALUES: list[tuple[type[BaseModel], dict[str, Any]]] = [
    *((DeploymentsFile, {key: value}) for key in ("build", "push", "pull") for value in ([], {}, None, [{"a": {}}], 1)),
    (DeploymentsFile, {"prefect-version": "3.9.1"}),
    (DeploymentsFile, {"deployments": [{"name": "one"}]}),
    (DeploymentsFile, {"deployments": {"name": "one"}}),
    *((Deployment, {"tags": value}) for value in ("{{ tags }}", ["a"], None, 1)),
    *((Deployment, {"paused": value}) for value in (True, "yes", None, "perhaps")),
    *((Deployment, {"parameters": value}) for value in ({"a": 1}, ["a"], None)),
    *((Deployment, {"triggers": value}) for value in ([{"type": "event"}], {"type": "event"}, None)),
    (Deployment, {"description": 1}),
    (Deployment, {"entrypoint": ["flow"]}),
    *((Schedule, {"cron": "0 * * * *", "active": value}) for value in (True, "{{ active }}", None, [])),
    *((Schedule, {"interval": value}) for value in (60, 0.5, "PT1H", "01:00:00", "hourly")),
    (Schedule, {"rrule": "FREQ=DAILY", "slug": "daily", "timezone": "UTC"}),
    (Schedule, {"cron": "0 * * * *", "rrule": "FREQ=DAILY"}),
    (Schedule, {"slug": "none"}),
    (Schedule, {"cron": "0 * * * *", "timezon": "UTC"}),
    *((WorkPool, {"job_variables": value}) for value in ({"env": {}}, [], None)),
    (ConcurrencyLimit, {"limit": "one"}),
    (ConcurrencyLimit, {"limit": 1, "collision_strategy": "CANCEL_NEW", "grace_period_seconds": 60}),
]


def accepts(model: type[BaseModel], value: Any) -> bool:
    try:
        model.model_validate(value)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize(("ours", "name"), MODELS.items(), ids=MODELS.values())
def test_every_key_that_prefect_reads_is_known_and_no_other(ours: type[BaseModel], name: str) -> None:
    assert keys_of(ours) == keys_of(getattr(prefect, name))


@pytest.mark.parametrize(("ours", "value"), VALUES, ids=str)
def test_a_value_is_refused_if_prefect_refuses_it(ours: type[BaseModel], value: dict[str, Any]) -> None:
    assert accepts(ours, value) == accepts(getattr(prefect, MODELS[ours]), value)


def test_the_shipped_file_is_accepted_by_prefect() -> None:
    assert accepts(prefect.PrefectYamlModel, yaml.safe_load(FILE.read_text()))


def test_prefect_accepts_an_automation_with_an_action_that_it_never_carries_out() -> None:
    trigger = {"type": "event", "posture": "Reactive", "expect": ["calendly.invitee.created"], "threshold": 1}
    for kind in ("change-flow-run-state", "change-state"):
        automation = {"name": "one", "trigger": trigger, "actions": [{"type": kind, "state": "CRASHED"}]}
        assert accepts(AutomationCore, automation)
    assert "change-flow-run-state" in ACTIONS
    assert "change-state" not in ACTIONS
