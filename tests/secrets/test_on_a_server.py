"""Keys, session URLs and addresses are looked for wherever a Prefect server keeps something of runs.

Five runs, which together fill every place; the search is tried on one that leaks into all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from prefect.logging.handlers import APILogHandler
from prefect.settings import (
    PREFECT_LOCAL_STORAGE_PATH,
    PREFECT_RESULTS_PERSIST_BY_DEFAULT,
    temporary_settings,
)
from prefect.states import Failed
from pydantic import RootModel

from flows.cancel_blocked_domains import cancel_blocked_domains
from flows.ensure_webhook_subscription import ensure_webhook_subscription
from flows.poll_bookings import poll_bookings
from flows.record_expired_approval import record_expired_approval
from prefect_calendly import CalendlyCredentials
from prefect_calendly.bookings.polling import BookingsToPoll
from prefect_calendly.client.errors import CalendlyError
from prefect_calendly.client.pace import PROCESS_LIMITS
from prefect_calendly.connections import adelete_connection
from prefect_calendly.runs.state import save_state
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.screening.approval import EXPIRED_MESSAGES
from prefect_calendly.subscription.spec import SubscriptionSpec
from tests.fixtures import credentials_for
from tests.flows.approvals import DOMAIN, Deployed, deploy
from tests.inline import inlined
from tests.notifiers import Receiver
from tests.secrets.leaks import leaky
from tests.secrets.texts import (
    HOOK,
    KEY,
    PERSON,
    PLANTED,
    PUBLISHED_PERSON,
    SECRETS,
    SIGNING_KEY,
    everything_logged,
    places_of_errors,
    spellings,
)
from tests.support import IMPATIENT, database_of_prefect, until

TABLES = ("log", "artifact", "events", "flow_run", "task_run", "flow_run_state", "task_run_state", "variable")
PLACES = (
    *("logs", "notifications", "results", "database files", "everything else in the database"),
    *(f"table {table}" for table in (*TABLES, "flow_run_input")),
    *("tracebacks", "variables in tracebacks", "variables in hidden tracebacks", "errors", "pickled errors"),
)
VARIABLES = ("variables in tracebacks", "variables in hidden tracebacks")
# rich and a debugger look at everything, what is deprecated too.
pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
every_place = pytest.mark.parametrize("place", PLACES)


@dataclass
class Left:
    """What the runs have left behind."""

    database: Path
    """A copy of Prefect's database."""
    results: Path
    errors: list[BaseException] = field(default_factory=list)
    hidden: dict[str, str] = field(default_factory=lambda: dict(SECRETS))
    """What must not be found."""
    texts: dict[str, str] = field(default_factory=dict)

    def has(self, place: str, text: str) -> bool:
        """Whether a place holds a text, in clear or encoded."""
        return any(self._has(place, spelling) for spelling in spellings(text))

    def _has(self, place: str, text: str) -> bool:
        if place.startswith("table "):
            return self._in_tables([place.removeprefix("table ")], text)
        if place == "everything else in the database":
            return self._in_tables([table for table in self._tables() if f"table {table}" not in PLACES], text)
        files = {"results": self.results.rglob("*"), "database files": database_of_prefect()}
        if place in files:
            return any(text.encode() in file.read_bytes() for file in files[place] if file.is_file())
        return text in self.texts[place]

    def _tables(self) -> list[str]:
        with contextlib.closing(sqlite3.connect(self.database)) as database:
            kind = "SELECT name FROM sqlite_master WHERE type = 'table'"
            return [name for (name,) in database.execute(kind)]

    def _in_tables(self, tables: list[str], text: str) -> bool:
        with contextlib.closing(sqlite3.connect(self.database)) as database:
            for table in tables:
                columns = [f'"{name}"' for _, name, *_ in database.execute(f"PRAGMA table_info({table})")]
                where = " OR ".join(f"instr(CAST({name} AS TEXT), ?1)" for name in columns)
                if database.execute(f'SELECT 1 FROM "{table}" WHERE {where} LIMIT 1', [text]).fetchone():
                    return True
        return False


# The runs


class Runs:
    """Flows against one sandbox, with results persisted and every logger at DEBUG."""

    def __init__(self, sandbox: Sandbox, left: Left, receiver: Receiver) -> None:
        self.sandbox, self.left, self.receiver = sandbox, left, receiver
        self.credentials = credentials_for(sandbox)

    async def fails(self, run: Callable[[], Awaitable[Any]], error: type[BaseException]) -> None:
        with pytest.raises(error) as caught:
            await run()
        self.left.errors.append(caught.value)
        self.sandbox.clear_faults()

    async def that_leaks(self) -> None:
        self.sandbox.control("POST", "/connections", {"activate_after_gets": None})
        before = await self._connections()
        await self.fails(lambda: leaky(self.credentials, PLANTED, self.receiver.block), RuntimeError)
        ((made, url),) = (await self._connections()).items() - before.items()
        self.left.hidden["session URL"] = url.partition("session_token=")[2]
        await adelete_connection.fn(self.credentials, made)

    async def _connections(self) -> dict[str, str]:
        async with self.credentials.get_client() as of_gateway:
            answer = await of_gateway.request("GET", "/connections", host="connections")
        return {each["connection_id"]: str(each["url"]) for each in answer["connections"]}

    async def of_a_subscription(self) -> None:
        await Secret(value=SIGNING_KEY).asave("leaks-given", overwrite=True)  # type: ignore[arg-type]
        spec = SubscriptionSpec(
            callback_url="https://hooks.example.com/leaks",
            signing_key_block="leaks-given",
            backfill=False,
            notify=self.receiver.block,
        )
        words = f"No {SIGNING_KEY} of {PERSON}@leaks.example, {KEY}"
        self.sandbox.fault("permission_denied", route="/webhook_subscriptions", method="POST", message=words)
        await self.fails(lambda: ensure_webhook_subscription(self.credentials, spec), CalendlyError)

    async def that_waits_for_a_person(self) -> None:
        """Nobody comes."""
        deployed = Deployed(await deploy(self.credentials, "leaks"), self.sandbox, self.receiver.block)
        deployed.book(f"{PERSON}@{DOMAIN}")
        run = await deployed.start()
        async with get_client() as api:
            with pytest.raises(Pause):
                await run_flow(cancel_blocked_domains, flow_run=await api.read_flow_run(run))  # type: ignore[misc]
            await api.set_flow_run_state(run, Failed(message=EXPIRED_MESSAGES[0]), force=True)
        assert await record_expired_approval(run)

    async def that_publishes_bookings(self) -> None:
        """It emits events about everybody who has booked: it is what it is for."""
        polling = BookingsToPoll(scope="organization", notify=self.receiver.block)
        with pytest.MonkeyPatch.context() as monkeypatch:
            inline = inlined(monkeypatch)
            inline.blocks[self.receiver.block] = self.receiver.webhook()
            await poll_bookings(self.credentials, polling)
            states = dict(inline.states)
        for name, value in states.items():
            await save_state(name, RootModel[dict[str, Any]](value))
        self.sandbox.add_event(invitees=[{"email": f"{PUBLISHED_PERSON}@leaks.example"}])
        assert (await poll_bookings(self.credentials, polling)).emitted


@pytest.fixture(scope="module")
def left(prefect_server: None, tmp_path_factory: pytest.TempPathFactory) -> Left:
    folder = tmp_path_factory.mktemp("secrets")
    left = Left(database=folder / "copy.db", results=folder / "results")
    settings: Any = {PREFECT_RESULTS_PERSIST_BY_DEFAULT: True, PREFECT_LOCAL_STORAGE_PATH: left.results}
    with (
        Sandbox(events=12, invitees=16, hosts=2, seed=5, gateway_rps=0, api_key=KEY) as sandbox,
        pytest.MonkeyPatch.context() as monkeypatch,
        temporary_settings(settings),
        everything_logged() as logs,
    ):
        monkeypatch.setattr(CalendlyCredentials, "retry", IMPATIENT)
        messages = asyncio.run(run_all(sandbox, left))
        until(lambda: copied(left))
    left.texts = {
        "logs": "\n".join(logs),
        "notifications": "\n".join(map(str, messages)),
        **places_of_errors(left.errors),
    }
    PROCESS_LIMITS.clear()
    return left


async def run_all(sandbox: Sandbox, left: Left) -> list[dict[str, str]]:
    """Run everything; return what was sent by notifications."""
    receiver = Receiver()
    receiver.url += HOOK
    await receiver.save()
    try:
        runs = Runs(sandbox, left, receiver)
        await runs.that_leaks()
        await runs.of_a_subscription()
        await runs.that_waits_for_a_person()
        sandbox.reset()
        await runs.that_publishes_bookings()
    finally:
        receiver.stop()
    await APILogHandler.aflush()
    return receiver.messages


def copied(left: Left) -> bool:
    """Copy the database; whether what was stored last is in it."""
    (database,) = [file for file in database_of_prefect() if file.suffix == ".db"]
    with (
        contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as source,
        contextlib.closing(sqlite3.connect(left.database)) as copy,
    ):
        source.backup(copy)
    return all(left.has(f"table {table}", PLANTED) for table in TABLES)


# The search


@every_place
def test_the_search_finds_what_a_flow_leaks(left: Left, place: str) -> None:
    assert left.has(place, PLANTED)


@every_place
def test_no_key_and_no_session_url_is_left_anywhere(left: Left, place: str) -> None:
    assert [name for name, secret in left.hidden.items() if left.has(place, secret)] == []


@pytest.mark.parametrize("place", [place for place in PLACES if place not in VARIABLES])
def test_no_address_is_left_but_in_the_events_that_are_about_people(left: Left, place: str) -> None:
    assert not left.has(place, PERSON)
    assert left.has(place, PUBLISHED_PERSON) == (place in ("table events", "database files"))


def test_a_plan_that_waits_for_a_person_is_stored_without_the_address(left: Left) -> None:
    assert left.has("table flow_run_input", f"@{DOMAIN}")


@pytest.mark.parametrize("place", ["logs", "table log", "table artifact", "table flow_run_state", "errors"])
def test_the_url_of_the_notifications_is_in_no_log(left: Left, place: str) -> None:
    assert left.has("table events", HOOK)  # this kind of block is not all secret: Prefect itself emits it
    assert not left.has(place, HOOK)
