"""What Prefect reads in `prefect.yaml` and in a file of automations; it ignores every other key without a word.

Prefect's own models of `prefect.yaml` are not public. A test compares these with them.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final, Self, cast, get_args

from prefect.events import (
    ActionTypes,
    DeploymentCompoundTrigger,
    DeploymentEventTrigger,
    DeploymentSequenceTrigger,
    DeploymentTriggerTypes,
)
from pydantic import BaseModel, ConfigDict, Field, model_validator

_Steps = list[dict[str, Any]] | dict[str, Any] | None


class WorkPool(BaseModel):
    """`work_pool` of a deployment."""

    name: str | None = None
    work_queue_name: str | None = None
    job_variables: dict[str, Any] = {}


class ConcurrencyLimit(BaseModel):
    """`concurrency_limit` of a deployment, unless it is a number."""

    limit: int | None = None
    collision_strategy: str | None = None
    grace_period_seconds: int | None = None


class Schedule(BaseModel):
    """One of the `schedules` of a deployment."""

    model_config = ConfigDict(extra="forbid")

    cron: str | None = None
    interval: timedelta | None = None
    rrule: str | None = None
    timezone: str | None = None
    anchor_date: str | None = None
    active: bool | str | None = None
    parameters: dict[str, Any] = {}
    slug: str | None = None
    replaces: str | None = None
    day_or: bool | str | None = None

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> Self:
        if [self.cron, self.interval, self.rrule].count(None) != 2:
            raise ValueError("exactly one of cron, interval and rrule must be given")
        return self


class Deployment(BaseModel):
    """One of the `deployments`."""

    name: str | None = None
    version: str | None = None
    version_type: str | None = None
    tags: str | list[Any] | None = None
    description: str | None = None
    schedule: Any = None
    schedules: list[Schedule] | None = None
    paused: bool | None = None
    concurrency_limit: int | ConcurrencyLimit | None = None
    flow_name: str | None = None
    entrypoint: str | None = None
    parameters: dict[str, Any] = {}
    enforce_parameter_schema: bool | None = None
    build: _Steps = None
    push: _Steps = None
    pull: _Steps = None
    work_pool: WorkPool | None = None
    triggers: list[dict[str, Any]] | None = None
    sla: list[Any] | None = None


class DeploymentsFile(BaseModel):
    """The whole of `prefect.yaml`."""

    prefect_version: str | None = Field(default=None, alias="prefect-version")
    name: str | None = None
    build: _Steps = None
    push: _Steps = None
    pull: _Steps = None
    deployments: list[Deployment] = []


TRIGGERS: Final[dict[str, type[BaseModel]]] = {
    "event": DeploymentEventTrigger,
    "compound": DeploymentCompoundTrigger,
    "sequence": DeploymentSequenceTrigger,
}
"""The models of a deployment's triggers, by their type."""

ACTIONS: Final[frozenset[str]] = frozenset(model.model_fields["type"].default for model in get_args(ActionTypes))
"""The types of an automation's actions. Prefect keeps an action of another type, and never carries it out."""


def keys_of(model: type[BaseModel]) -> set[str]:
    """Return the keys that a model reads."""
    return {field.alias or name for name, field in model.model_fields.items()}


def trigger_of(written: dict[str, Any]) -> DeploymentTriggerTypes:
    """Return a trigger of a deployment as Prefect's own object."""
    return cast("DeploymentTriggerTypes", TRIGGERS[written.get("type", "event")].model_validate(written))
