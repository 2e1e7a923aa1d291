"""The flow as a whole on a Prefect server: its run, its Secret block, its events, and what Prefect stores of it."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.artifacts import Artifact
from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client
from prefect.logging.handlers import APILogHandler
from prefect.settings import get_current_settings

from flows.ensure_webhook_subscription import ensure_webhook_subscription
from prefect_calendly import CalendlyCredentials
from prefect_calendly.client.errors import PlanRequiredError
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.subscription.keys import KeyRing, load_keys, prepare_keys, update_keys
from prefect_calendly.subscription.publish import ARTIFACT_KEY
from prefect_calendly.subscription.report import SubscriptionReport
from prefect_calendly.subscription.spec import SubscriptionSpec
from tests.subscription.examples import HIDDEN, HOOKS, URL

KEY = "whsec-do-not-show-me-0123456789"

pytestmark = pytest.mark.usefixtures("prefect_server", "impatient")


@pytest.fixture
def all_logs(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What flow and task runs log, at DEBUG: Prefect's loggers do not hand on to pytest's by themselves."""
    loggers = [logging.getLogger(name) for name in ("prefect.flow_runs", "prefect.task_runs", "prefect.engine")]
    for logger in loggers:
        logger.addHandler(caplog.handler)
    caplog.set_level(logging.DEBUG)
    yield caplog
    for logger in loggers:
        logger.removeHandler(caplog.handler)


async def ensure(credentials: CalendlyCredentials, **members: Any) -> SubscriptionReport:
    spec = SubscriptionSpec(**{"callback_url": URL, "backfill": False, **members})
    return await ensure_webhook_subscription(credentials, spec)


async def test_a_run_is_named_after_host_and_scope(credentials: CalendlyCredentials) -> None:
    state = await ensure_webhook_subscription(
        credentials,
        {"callback_url": URL, "scope": "user", "backfill": False},  # type: ignore[arg-type]  # as the UI sends it
        return_state=True,
    )
    async with get_client() as client:
        run = await client.read_flow_run(state.state_details.flow_run_id)
    assert run.name == "webhook of hooks.example.com, scope user"


async def test_the_signing_key_and_the_urls_secret_are_stored_nowhere_else(
    sandbox: Sandbox, credentials: CalendlyCredentials, all_logs: pytest.LogCaptureFixture
) -> None:
    await Secret(value=KEY).asave("given-key", overwrite=True)  # type: ignore[arg-type]
    report = await ensure(credentials, signing_key_block="given-key")
    assert report.subscription is not None
    assert sandbox._server._app._state.world.webhooks[report.subscription].signing_key == KEY
    # And with a failure, whose traceback is logged.
    sandbox.fault("plan", method="POST", route=HOOKS, times=None)
    with pytest.raises(PlanRequiredError) as caught:
        await ensure(credentials, signing_key_block="given-key", events=["contact.created"])

    await APILogHandler.aflush()
    found = await Artifact.aget(ARTIFACT_KEY)
    assert found is not None
    shown = f"{report.model_dump_json()} {caught.value} {all_logs.text} {found.data}".replace("\u200b", "")
    assert "hooks.example.com/…" in shown
    assert not [secret for secret in (KEY, HIDDEN, sandbox.api_key) if secret in shown]
    rows = database_rows()
    assert any(report.subscription in row for row in rows["artifact"])
    assert any("hooks.example.com" in row for row in rows["log"])
    assert not [table for table, its in rows.items() for row in its if KEY in row]
    # The parameters of a flow run are what the user filled in, the URL among them.
    assert not [table for table, its in rows.items() for row in its if HIDDEN in row and table != "flow_run"]


async def test_keys_live_in_a_secret_block_which_several_runs_may_change() -> None:
    first, second = await asyncio.gather(
        *(prepare_keys("shared-key", None, rotate_now=False, dry_run=False) for _ in range(2))
    )
    assert first[0] == second[0]
    assert sorted(str(change) for _, change in (first, second)) == ["None", "made"]
    now = datetime.now(UTC)
    for number in (1, 2):

        def note(ring: KeyRing, number: int = number) -> KeyRing:
            return ring.with_subscription(f"webhook-{number}", f"HOOK{number}", ring.newest, now)

        await update_keys("shared-key", first[0], note)
    ring = await load_keys("shared-key")
    assert ring is not None
    assert ring.keys == first[0].keys
    assert ring.fits("HOOK1")
    assert ring.fits("HOOK2")
    saved: Any = await Secret.aload("shared-key")
    assert saved.get()["keys"] == [ring.newest.get_secret_value()]


async def test_bookings_while_it_was_disabled_are_events_in_prefect(
    sandbox: Sandbox, credentials: CalendlyCredentials
) -> None:
    first = await ensure(credentials, backfill=True)
    assert first.subscription is not None
    sandbox.set_webhook(first.subscription, state="disabled")
    missed = sandbox.add_event(invitees=[{"email": "jane@shop.example"}])
    report = await ensure(credentials, backfill=True)
    assert (report.outcome, bool(report.gap_emitted)) == ("revived", True)
    related = {"id": [f"calendly.scheduled-event.{missed.rpartition('/')[2]}"]}
    until = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    async with get_client() as client:
        body = {"filter": {"related": related, "occurred": {"until": until}}}
        found = (await client.request("POST", "/events/filter", json=body)).json()["events"]
    assert [(each["event"], each["resource"]["calendly.source"]) for each in found] == [
        ("calendly.invitee.created", "backfill")
    ]
    assert (await ensure(credentials, backfill=True)).gap_since is None


def database_rows() -> dict[str, list[str]]:
    """Every row of the Prefect database as text, by table."""
    url = str(get_current_settings().server.database.connection_url.get_secret_value())
    path = Path(url.partition(":///")[2])
    with sqlite3.connect(path) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {table: [repr(row) for row in database.execute(f"SELECT * FROM {table}")] for table in tables}
