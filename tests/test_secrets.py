"""Keys, session URLs and addresses are looked for wherever something stays behind when all flows have run and failed.

What is looked for was in use: it went to the sandbox, and was repeated by it. The search is tried on a flow that leaks.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import secrets
import sqlite3
import traceback
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import cloudpickle
import httpx
import pytest
from prefect import flow, get_run_logger, runtime, task
from prefect.artifacts import acreate_markdown_artifact
from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client
from prefect.events import emit_event
from prefect.exceptions import ParameterTypeError
from prefect.logging.handlers import APILogHandler
from prefect.settings import (
    PREFECT_LOCAL_STORAGE_PATH,
    PREFECT_RESULTS_PERSIST_BY_DEFAULT,
    temporary_settings,
)
from prefect.states import Failed
from prefect.variables import Variable
from rich.pretty import Node
from rich.traceback import Traceback

from flows.availability_digest import availability_digest
from flows.cancel_blocked_domains import cancel_blocked_domains
from flows.ensure_webhook_subscription import ensure_webhook_subscription
from flows.poll_bookings import poll_bookings
from flows.reconcile_bookings import reconcile_bookings
from flows.record_expired_approval import record_expired_approval
from flows.screen_booking import screen_booking
from prefect_calendly import CalendlyCredentials
from prefect_calendly.bookings.polling import BookingsToPoll
from prefect_calendly.bookings.reconciliation import BookingsToReconcile
from prefect_calendly.client.errors import CalendlyError, ConnectionPendingError
from prefect_calendly.client.pace import PROCESS_LIMITS
from prefect_calendly.connections import (
    acreate_connection,
    adelete_connection,
    aget_active_connection,
    alist_connections,
)
from prefect_calendly.digest.request import DigestRequest
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.screening.approval import EXPIRED_MESSAGES
from prefect_calendly.screening.policy import CancelPolicy
from prefect_calendly.subscription.spec import SubscriptionSpec
from tests.conftest import credentials_for
from tests.flows.test_approval import DOMAIN, Deployed, deploy
from tests.notifiers import Receiver
from tests.support import IMPATIENT, database_of_prefect, until


def _unlike_any_other(prefix: str) -> str:
    return f"{prefix}{secrets.token_hex(6)}"  # short, and letters and figures only: no table breaks or escapes it


KEY = _unlike_any_other("makey")
REFUSED_KEY = _unlike_any_other("nokey")
SIGNING_KEY = _unlike_any_other("whsec")
NO_SIGNING_KEY = _unlike_any_other("other")
HOOK = _unlike_any_other("hook")
PERSON = _unlike_any_other("pat")
TOLD_PERSON = _unlike_any_other("tom")
PLANTED = _unlike_any_other("plant")

TABLES = ("log", "artifact", "events", "flow_run", "task_run", "flow_run_state", "task_run_state", "variable")
PLACES = (
    *("logs", "notifications", "results", "database files", "everything else in the database"),
    *(f"table {table}" for table in (*TABLES, "flow_run_input")),
    *("tracebacks", "variables in tracebacks", "variables in hidden tracebacks", "errors shown", "pickled errors"),
)
VARIABLES = ("variables in tracebacks", "variables in hidden tracebacks")
# rich and a debugger look at everything, what is deprecated too.
pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
every_place = pytest.mark.parametrize("place", PLACES)


# What is left behind


@dataclass
class Left:
    """What the runs have left behind."""

    logs: list[str] = field(default_factory=list)
    notifications: list[str] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    hidden: dict[str, str] = field(default_factory=dict)
    """What must not be found."""
    database: Path = Path()
    """A copy of Prefect's database."""
    results: Path = Path()

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
        return text in self._texts[place]

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

    def note(self) -> None:
        """Look at the errors as a log, rich and a debugger do, and keep what they show."""
        self._texts = {
            "logs": "\n".join(self.logs),
            "notifications": "\n".join(self.notifications),
            "tracebacks": "\n".join("".join(traceback.format_exception(error)) for error in self.errors),
            "variables in tracebacks": "\n".join(with_variables(error) for error in self.errors),
            "variables in hidden tracebacks": "\n".join(with_all_variables(error) for error in self.errors),
            "errors shown": "\n".join([*self.shown, *(f"{error!r} {vars(error)}" for error in self.errors)]),
            "pickled errors": "\n".join(cloudpickle.dumps(error).decode("latin-1") for error in self.errors),
        }


def spellings(text: str) -> list[str]:
    """A text as it is, in hexadecimal, and in the three ways in which base64 may hold it."""
    found = [text, text.encode().hex()]
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + text.encode()).decode()
        found.append(encoded[(0, 2, 3)[before] : -4])  # without what depends on its neighbours
    return found


def with_variables(error: BaseException) -> str:
    """What rich shows of an error with `show_locals`."""
    shown = Traceback.extract(
        type(error), error, error.__traceback__, show_locals=True, locals_max_length=None, locals_max_string=None
    )
    nodes: Iterator[tuple[str, Node]] = (
        item for stack in shown.stacks for frame in stack.frames for item in (frame.locals or {}).items()
    )
    return "\n".join(f"{name} = {node}" for name, node in nodes)


def with_all_variables(error: BaseException) -> str:
    """The variables of an error and of all that are chained to it, whether or not a traceback shows them."""
    chain, waiting = [], [error]
    while waiting:
        each = waiting.pop()
        chain.append(each)
        more = [each.__cause__, each.__context__, *getattr(each, "exceptions", ())]
        waiting += [other for other in more if other is not None and other not in chain]
    texts = (traceback.TracebackException.from_exception(each, capture_locals=True) for each in chain)
    return "\n".join("".join(text.format(chain=False)) for text in texts)


# The runs


@task
async def leak(text: str) -> str:
    get_run_logger().debug("Leaking %s", text)
    return text


@flow(flow_run_name="{text}")
async def leaky(text: str, notifier: str) -> str:
    """Tell everybody everything."""
    from prefect_calendly.runs.notifications import notify

    await leak.with_options(task_run_name=text, persist_result=True)(text)
    await acreate_markdown_artifact(text, key="leaky")
    emit_event("leaky", {"prefect.resource.id": "leaky"}, payload={"text": text})
    await Variable.aset("leaky", text, overwrite=True)
    await notify(notifier, "Leaky", text)
    async with get_client() as api:
        await api.create_flow_run_input(runtime.flow_run.id, "leaky", text)
    await Secret(value="harmless").asave(text)  # type: ignore[arg-type]
    return text


@task
async def fail(text: str) -> None:
    try:
        raise KeyError(text)
    except KeyError:
        shown = f"{text} is a variable of a frame"
        raise RuntimeError(shown) from None


@flow
async def leaky_failure(text: str) -> None:
    """Fail with everything in the error."""
    await fail(text)


@flow
async def connect(credentials: CalendlyCredentials) -> str:
    """Begin a connection that nobody finishes, and show it in every way that comes to mind."""
    made = await acreate_connection(credentials)
    assert made.url
    get_run_logger().info("made %s %r %s %s", made, made, made.url, made.model_dump_json())
    await acreate_markdown_artifact(f"{made} {made.model_dump()}", key="connection")
    await alist_connections(credentials)
    with pytest.raises(ConnectionPendingError):
        await aget_active_connection(credentials, made, timeout_seconds=0.1, poll_seconds=0.05)
    return made.connection_id


class Runs:
    """All flows against one sandbox."""

    def __init__(self, sandbox: Sandbox, left: Left, receiver: Receiver) -> None:
        self.sandbox, self.left, self.receiver = sandbox, left, receiver
        self.credentials = credentials_for(sandbox)
        self.policy = CancelPolicy(
            blocked_domains=["leaks.example"], scope="organization", horizon_days=5, notify=receiver.block
        )
        self.request = DigestRequest(days=1, notify=receiver.block)

    async def fails(self, run: Callable[[], Awaitable[Any]], error: type[BaseException]) -> None:
        with pytest.raises(error) as caught:
            await run()
        self.left.errors.append(caught.value)
        self.sandbox.clear_faults()

    def book(self, person: str) -> str:
        start = self.sandbox.clock() + timedelta(days=2)
        body = {"start_time": start.isoformat(), "invitees": [{"email": f"{person}@leaks.example", "name": "A B"}]}
        return str(self.sandbox.control("POST", "/events", body)["invitees"][0])

    async def connections(self) -> None:
        self.sandbox.control("POST", "/connections", {"activate_after_gets": None})
        made = await connect(self.credentials)
        (url,) = [each["url"] for each in await self._connections() if each["connection_id"] == made]
        self.left.hidden["session URL"] = url.partition("session_token=")[2]
        await adelete_connection(self.credentials, made)

    async def _connections(self) -> list[dict[str, Any]]:
        async with self.credentials.get_client() as of_gateway:
            answer = await of_gateway.request("GET", "/connections", host="connections")
        return list(answer["connections"])

    async def that_succeed(self) -> None:
        await cancel_blocked_domains(self.credentials, self.policy, dry_run=True)
        await screen_booking(self.credentials, self.book(PERSON), self.policy, dry_run=False)
        self.book(PERSON)
        await cancel_blocked_domains(self.credentials, self.policy, dry_run=False)
        await availability_digest(self.credentials, self.request)

    def subscription(self, **members: Any) -> SubscriptionSpec:
        url = "https://hooks.example.com/leaks"
        # Without telling Prefect of what was missed: that is about people.
        return SubscriptionSpec(callback_url=url, backfill=False, notify=self.receiver.block, **members)

    async def with_signing_keys(self) -> None:
        await Secret(value=SIGNING_KEY).asave("leaks-given", overwrite=True)  # type: ignore[arg-type]
        given = self.subscription(signing_key_block="leaks-given")
        await ensure_webhook_subscription(self.credentials, given)
        hooks = self.sandbox._server._app.world.webhooks.values()
        assert [hook.signing_key for hook in hooks if hook.signing_key] == [SIGNING_KEY]

        words = f"No {SIGNING_KEY} of {PERSON}@leaks.example, {KEY}"
        self.sandbox.fault("permission_denied", route="/webhook_subscriptions", method="POST", message=words)
        changed = given.model_copy(update={"events": ("invitee.created",)})
        await self.fails(lambda: ensure_webhook_subscription(self.credentials, changed), CalendlyError)
        self.sandbox.fault("drop_before", route="/webhook_subscriptions", method="POST", times=None)
        await self.fails(lambda: ensure_webhook_subscription(self.credentials, changed), CalendlyError)

        await Secret(value={"keys": NO_SIGNING_KEY}).asave("leaks-other", overwrite=True)  # type: ignore[arg-type]
        other = self.subscription(signing_key_block="leaks-other")
        await self.fails(lambda: ensure_webhook_subscription(self.credentials, other), ValueError)

        own = self.subscription(signing_key_block="leaks-own")
        await ensure_webhook_subscription(self.credentials, own, rotate_key_now=True)
        saved: Any = await Secret.aload("leaks-own")
        self.left.hidden["signing key made by the flow"] = saved.get()["keys"][0]

    async def that_fail(self) -> None:
        token = self.left.hidden["session URL"]
        words = f"No {KEY} for {PERSON}@leaks.example; see https://connect.maton.ai/?session_token={token}"
        digest = lambda: availability_digest(self.credentials, self.request)  # noqa: E731
        for kind in ("unauthorized_gateway", "unauthorized_calendly"):
            self.sandbox.fault(kind, message=words)
            await self.fails(digest, CalendlyError)
        refused = credentials_for(self.sandbox, api_key=REFUSED_KEY)
        await self.fails(lambda: availability_digest(refused, self.request), CalendlyError)
        for kind in ("html_502", "server_error", "drop_after", "malformed_json"):
            self.sandbox.fault(kind, times=None)
            await self.fails(digest, CalendlyError)
        self.sandbox.fault("missing_member", member="uri", route="/users/me", times=None)
        await self.fails(digest, CalendlyError)
        invitee = self.book(PERSON)
        self.sandbox.fault("server_error", method="POST", times=None)
        await self.fails(lambda: cancel_blocked_domains(self.credentials, self.policy, dry_run=False), Exception)
        self.sandbox.fault("server_error", times=None)
        await self.fails(lambda: screen_booking(self.credentials, invitee, self.policy, False), CalendlyError)
        wrong: Any = {"blocked_domains": []}
        await self.fails(lambda: screen_booking(self.credentials, invitee, wrong), ParameterTypeError)

    async def that_crash(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """One by an error that nobody foresaw, under the client, and one that is killed while it waits."""
        send = httpx.AsyncHTTPTransport.handle_async_request

        async def broken(self: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
            answer = await send(self, request)
            if request.url.path.startswith("/calendly"):
                raise LookupError("deep inside")
            return answer

        with monkeypatch.context() as patch:
            patch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", broken)
            await self.fails(lambda: availability_digest(self.credentials, self.request), LookupError)

        self.sandbox.fault("latency", seconds=60, times=None)
        before = self.sandbox.stats()["requests"]
        killed = asyncio.ensure_future(availability_digest(self.credentials, self.request))
        await asyncio.to_thread(until, lambda: self.sandbox.stats()["requests"] > before)
        killed.cancel()

        async def ended() -> Any:
            return await killed

        await self.fails(ended, asyncio.CancelledError)

    async def of_a_deployment(self) -> None:
        """In a process of its own; it waits for a person who does not come."""
        await self.credentials.asave("approval", overwrite=True)
        deployed = Deployed(await deploy("leaks"), self.sandbox, self.receiver.block)
        deployed.book(f"{PERSON}@{DOMAIN}")
        run = await deployed.start()
        process = deployed.process(run)
        output, _ = await asyncio.to_thread(process.communicate, timeout=120)
        self.left.logs.append(output)
        async with get_client() as api:
            assert (await api.read_flow_run(run)).state_name == "Suspended", output
            await api.set_flow_run_state(run, Failed(message=EXPIRED_MESSAGES[0]), force=True)
        assert await record_expired_approval(run)

    async def that_tell_prefect(self) -> None:
        """They tell Prefect of everybody who has booked: it is what they are for."""
        polling = BookingsToPoll(scope="organization", notify=self.receiver.block)
        await poll_bookings(self.credentials, polling)
        self.book(TOLD_PERSON)
        assert (await poll_bookings(self.credentials, polling)).emitted
        window = BookingsToReconcile(scope="organization", hours=1, notify=self.receiver.block)
        await reconcile_bookings(self.credentials, window)
        self.sandbox.fault("html_502", times=None)
        await self.fails(lambda: poll_bookings(self.credentials, polling), CalendlyError)
        self.sandbox.fault("malformed_json", times=None)
        await self.fails(lambda: reconcile_bookings(self.credentials, window), CalendlyError)

    async def that_leak(self) -> None:
        await leaky.with_options(persist_result=True)(PLANTED, self.receiver.block)
        await self.fails(lambda: leaky_failure(PLANTED), RuntimeError)


@pytest.fixture(scope="module")
def left(prefect_server: None, tmp_path_factory: pytest.TempPathFactory) -> Left:
    """Run everything, with results persisted and every logger at DEBUG."""
    folder = tmp_path_factory.mktemp("secrets")
    left = Left(database=folder / "copy.db", results=folder / "results")
    settings: Any = {PREFECT_RESULTS_PERSIST_BY_DEFAULT: True, PREFECT_LOCAL_STORAGE_PATH: left.results}
    with (
        Sandbox(events=12, invitees=16, hosts=2, seed=5, gateway_rps=0, api_key=KEY) as sandbox,
        pytest.MonkeyPatch.context() as monkeypatch,
        temporary_settings(settings),
        everything_logged(left.logs),
    ):
        monkeypatch.setattr(CalendlyCredentials, "retry", IMPATIENT)
        monkeypatch.setattr("prefect_calendly.subscription.apply.PAUSES_SECONDS", ())
        for name, value in {
            "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "true",
            "PREFECT_LOCAL_STORAGE_PATH": str(left.results),
            "PREFECT_LOGGING_LEVEL": "DEBUG",
            "PREFECT_LOGGING_ROOT_LEVEL": "DEBUG",
        }.items():
            monkeypatch.setenv(name, value)
        asyncio.run(run_all(sandbox, left, monkeypatch))
        until(lambda: copied(left))
        left.note()
    PROCESS_LIMITS.clear()
    return left


async def run_all(sandbox: Sandbox, left: Left, monkeypatch: pytest.MonkeyPatch) -> None:
    async with get_client() as api:
        for variable in await api.read_variables():  # what earlier tests have noted is of another world
            await api.delete_variable_by_name(variable.name)
    receiver = Receiver()
    receiver.url += HOOK
    await receiver.save()
    try:
        runs = Runs(sandbox, left, receiver)
        await runs.connections()
        await runs.that_succeed()
        await runs.with_signing_keys()
        await runs.that_fail()
        await runs.that_crash(monkeypatch)
        await runs.of_a_deployment()
        sandbox.reset()
        await runs.that_tell_prefect()
        await runs.that_leak()
        async with runs.credentials.get_client() as of_gateway:
            left.shown += map(repr, (runs.credentials, of_gateway, of_gateway._limiter, vars(runs.credentials)))
    finally:
        receiver.stop()
    await APILogHandler.aflush()
    left.notifications += [str(message) for message in receiver.messages]
    left.hidden |= {
        "Maton key": KEY,
        "refused Maton key": REFUSED_KEY,
        "signing key": SIGNING_KEY,
        "Secret block of something else": NO_SIGNING_KEY,
    }


def copied(left: Left) -> bool:
    """Copy the database; whether what was told last is in it."""
    (database,) = [file for file in database_of_prefect() if file.suffix == ".db"]
    with (
        contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as source,
        contextlib.closing(sqlite3.connect(left.database)) as copy,
    ):
        source.backup(copy)
    return all(left.has(f"table {table}", PLANTED) for table in TABLES)


@contextlib.contextmanager
def everything_logged(lines: list[str]) -> Iterator[None]:
    """Keep every record of every logger, with its traceback and arguments, at DEBUG."""

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(f"{record.name} {self.format(record)} {record.args!r}")

    keeper = Keeper()
    loggers = [logging.getLogger(name) for name in ("", "prefect", "prefect.flow_runs", "prefect.task_runs")]
    loud = [*loggers, *map(logging.getLogger, ("httpx", "httpcore", "asyncio", "prefect_calendly", "flows"))]
    levels = [logger.level for logger in loud]
    for logger in loud:
        logger.setLevel(logging.DEBUG)
    for logger in loggers[:2]:
        logger.addHandler(keeper)
    try:
        yield
    finally:
        for logger in loggers[:2]:
            logger.removeHandler(keeper)
        for logger, level in zip(loud, levels, strict=True):
            logger.setLevel(level)


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
    assert left.has(place, TOLD_PERSON) == (place in ("table events", "database files"))


def test_whose_address_is_nowhere_was_dealt_with(left: Left) -> None:
    assert left.has("table artifact", "u2026@leaks.example")  # masked, and JSON within JSON
    assert left.has("table flow_run_input", f"@{DOMAIN}")  # the plan that waited for a person
    assert left.has("logs", "***@leaks.example")


@pytest.mark.parametrize("place", ["logs", "table log", "table artifact", "table flow_run_state", "errors shown"])
def test_the_url_of_the_notifications_is_in_no_log(left: Left, place: str) -> None:
    assert left.has("table events", HOOK)  # this kind of block is not all secret: Prefect itself tells
    assert not left.has(place, HOOK)
