"""Flows without a Prefect server: tasks and flows are called as plain functions, and what Prefect would store is kept
in memory. What Prefect itself does about runs is tested where a server is (`prefect_server`)."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import Flow, Task
from prefect.artifacts import Artifact
from prefect.blocks.core import Block
from prefect.client.orchestration import get_client
from prefect.utilities.callables import get_call_parameters

from prefect_calendly.events import emit
from prefect_calendly.events.prefect_api import emit_missing
from prefect_calendly.runs import progress, state
from tests.prefect_events import PrefectEvents


@dataclass
class Inline:
    """What flows have left, in place of a Prefect server."""

    artifacts: list[SimpleNamespace] = field(default_factory=list)
    """All versions, each with `key`, `type`, `data`, `description`, `created`; the newest last."""
    states: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What `runs.state` has saved, by name."""
    blocks: dict[str, Block] = field(default_factory=dict)
    """Saved blocks, by type and name, such as `slack-webhook/ops`; put in those that a flow may load."""
    events: PrefectEvents = field(default_factory=PrefectEvents)
    """The events that Prefect has."""

    def artifact(self, key: str) -> Any:
        """Return the data of the newest version of an artifact."""
        return next(each.data for each in reversed(self.artifacts) if each.key == key)

    def versions(self, key: str) -> list[Any]:
        """Return the data of all versions of an artifact, the oldest first."""
        return [each.data for each in self.artifacts if each.key == key]


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> Inline:
    """Run flows and tasks in place; a test that uses this needs no Prefect server."""
    return inlined(monkeypatch)


def inlined(monkeypatch: pytest.MonkeyPatch) -> Inline:
    """Run flows and tasks in place until the patches are undone."""
    kept = Inline()

    def call_flow(self: Flow[..., Any], *args: Any, **kwargs: Any) -> Any:
        parameters = get_call_parameters(self.fn, args, kwargs)
        return self.fn(**(self.validate_parameters(parameters) if self.should_validate_parameters else parameters))

    async def create(self: Artifact, client: Any = None) -> Any:
        made = SimpleNamespace(
            id=uuid4(),
            key=self.key,
            type=self.type,
            data=await self.aformat() if hasattr(self, "aformat") else self.data,
            description=self.description,
            created=datetime.now(UTC),
        )
        kept.artifacts.append(made)
        return made

    async def get(key: str | None = None, client: Any = None) -> Any:
        return next((each for each in reversed(kept.artifacts) if each.key == key), None)

    async def update(artifact_id: UUID, percent: float, description: str | None = None) -> None:
        made = next(each for each in kept.artifacts if each.id == artifact_id)
        made.data, made.description = percent, description

    async def read(name: str) -> dict[str, Any] | None:
        return kept.states.get(name)

    async def write(name: str, value: dict[str, Any], expires_at: datetime | None) -> None:
        kept.states[name] = value

    def save(self: Block, name: str, overwrite: bool = False, client: Any = None) -> None:
        kept.blocks[f"{self.get_block_type_slug()}/{name}"] = self

    def load(cls: type[Block], name: str, validate: bool = True, client: Any = None) -> Block:
        reference = name if cls is Block else f"{cls.get_block_type_slug()}/{name}"
        if reference not in kept.blocks:
            raise ValueError(f"Unable to find block document {reference}")
        return kept.blocks[reference]

    async def aload(cls: type[Block], name: str, validate: bool = True, client: Any = None) -> Block:
        return load(cls, name)

    monkeypatch.setattr(Flow, "__call__", call_flow)
    monkeypatch.setattr(Task, "__call__", lambda self, *args, **kwargs: self.fn(*args, **kwargs))
    monkeypatch.setattr(Artifact, "acreate", create)
    monkeypatch.setattr(Artifact, "aget", get)
    monkeypatch.setattr(progress, "aupdate_progress_artifact", update)
    monkeypatch.setattr(state, "_read", read)
    monkeypatch.setattr(state, "_write", write)
    monkeypatch.setattr(Block, "save", save)
    monkeypatch.setattr(Block, "load", classmethod(load))
    monkeypatch.setattr(Block, "aload", classmethod(aload))
    # What is posted is stored at once here.
    monkeypatch.setattr(emit, "emit_missing", partial(emit_missing, pauses=(0,)))
    for name, module in list(sys.modules.items()):
        if name.startswith(("prefect_calendly.", "flows.")) and getattr(module, "get_client", None) is get_client:
            monkeypatch.setattr(module, "get_client", lambda **_: kept.events)
    return kept
