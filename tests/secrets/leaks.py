"""A flow that leaks a text wherever it can, and leaves a connection that nobody finishes."""

from __future__ import annotations

import pytest
from prefect import flow, get_run_logger, runtime, task
from prefect.artifacts import acreate_markdown_artifact
from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client
from prefect.events import emit_event
from prefect.variables import Variable

from prefect_calendly import CalendlyCredentials
from prefect_calendly.client.errors import ConnectionPendingError
from prefect_calendly.connections import (
    acreate_connection,
    aget_active_connection,
    alist_connections,
)
from prefect_calendly.runs.logger import run_logger
from prefect_calendly.runs.notifications import notify


async def show_connection(credentials: CalendlyCredentials) -> str:
    """Begin a connection that nobody finishes, and show it in every way that comes to mind; return its id."""
    made = await acreate_connection(credentials)
    assert made.url
    run_logger().info("made %s %r %s %s", made, made, made.url, made.model_dump_json())
    await acreate_markdown_artifact(f"{made} {made.model_dump()}", key="connection")
    await alist_connections(credentials)
    with pytest.raises(ConnectionPendingError):
        await aget_active_connection(credentials, made, timeout_seconds=0.1, poll_seconds=0.05)
    return made.connection_id


@task
async def leak(text: str) -> str:
    get_run_logger().debug("Leaking %s", text)
    return text


@task
async def fail(text: str) -> None:
    try:
        raise KeyError(text)
    except KeyError:
        shown = f"{text} is a variable of a frame"
        raise RuntimeError(shown) from None


@flow(flow_run_name="{text}")
async def leaky(credentials: CalendlyCredentials, text: str, notifier: str) -> None:
    """Leave the text in every place that a Prefect server has, and fail with it."""
    await show_connection(credentials)
    await leak.with_options(task_run_name=text, persist_result=True)(text)
    await acreate_markdown_artifact(text, key="leaky")
    emit_event("leaky", {"prefect.resource.id": "leaky"}, payload={"text": text})
    await Variable.aset("leaky", text, overwrite=True)
    await notify(notifier, "Leaky", text)
    async with get_client() as api:
        await api.create_flow_run_input(runtime.flow_run.id, "leaky", text)
    await Secret(value="harmless").asave(text)  # type: ignore[arg-type]
    await fail(text)
