"""What holds for every task of the catalogue: two names from one definition, typed, never cached, retried with care."""

import asyncio
import importlib
import inspect
import pydoc
import re
import subprocess
import sys
import typing
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect import Task, flow
from prefect.cache_policies import NO_CACHE
from prefect.states import Failed

from prefect_calendly import CalendlyCredentials
from prefect_calendly.client import CalendlyClient, errors
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.sandbox.seed import ALICE, CONNECTION, EVENT, EVENT_TYPE, INVITEE, ORGANIZATION, WEBHOOK
from prefect_calendly.scheduled_events import list_scheduled_events, list_scheduled_events_via
from prefect_calendly.tasks import client_task, make_tasks, retry_read, retry_write
from prefect_calendly.users import (
    User,
    aget_current_user,
    get_current_user,
    get_current_user_via,
    get_user,
)
from tests.support import IMPATIENT, nothing_unknown

Arguments = Callable[[Sandbox], tuple[tuple[Any, ...], dict[str, Any]]]


def given(*args: Any, **kwargs: Any) -> Arguments:
    return lambda sandbox: (args, kwargs)


def span(*args: Any) -> Arguments:
    def arguments(sandbox: Sandbox) -> tuple[tuple[Any, ...], dict[str, Any]]:
        start = sandbox.clock() + timedelta(hours=1)
        return args, {"start_time": start, "end_time": start + timedelta(days=40)}

    return arguments


# The table: module, task, what to call it with; None where the call changes something (tested elsewhere).
CATALOGUE: list[tuple[str, str, Arguments | None]] = [
    ("users", "get_current_user", given()),
    ("users", "get_user", given(ALICE)),
    ("event_types", "list_event_types", given(user=ALICE)),
    ("event_types", "get_event_type", given(EVENT_TYPE)),
    ("scheduled_events", "list_scheduled_events", given(organization=ORGANIZATION)),
    ("scheduled_events", "get_scheduled_event", given(EVENT)),
    ("scheduled_events", "cancel_scheduled_event", None),
    ("invitees", "list_invitees", given(EVENT)),
    ("invitees", "get_invitee", given(INVITEE, event=EVENT)),
    ("invitees", "create_invitee", None),
    ("invitees", "list_invitees_of_events", given([EVENT, EVENT])),
    ("availability", "list_available_times", span(EVENT_TYPE)),
    ("availability", "list_busy_times", span(ALICE)),
    ("availability", "list_availability_schedules", given(ALICE)),
    ("organizations", "list_memberships", given(organization=ORGANIZATION)),
    ("webhook_subscriptions", "list_webhook_subscriptions", given(organization=ORGANIZATION, scope="organization")),
    ("webhook_subscriptions", "create_webhook_subscription", None),
    ("webhook_subscriptions", "get_webhook_subscription", given(WEBHOOK)),
    ("webhook_subscriptions", "delete_webhook_subscription", None),
    ("connections", "list_connections", given()),
    ("connections", "create_connection", None),
    ("connections", "get_connection", given(CONNECTION)),
    ("connections", "delete_connection", None),
    ("connections", "get_active_connection", given(CONNECTION)),
    ("api", "call_endpoint", given("GET", "/locations", params={"user": f"https://api.calendly.com/users/{ALICE}"})),
]
WRITES = {name for _, name, arguments in CATALOGUE if arguments is None} | {"call_endpoint"}
NAMES = [(module, name) for module, name, _ in CATALOGUE]


def twins(module: str, name: str) -> tuple[Task[..., Any], Task[..., Any]]:
    room = importlib.import_module(f"prefect_calendly.{module}")
    return getattr(room, name), getattr(room, f"a{name}")


@pytest.mark.parametrize(("module", "name", "arguments"), CATALOGUE, ids=[name for _, name, _ in CATALOGUE])
def test_both_names_of_a_reading_task_give_the_same_over_http(
    module: str, name: str, arguments: Arguments | None, sandbox: Sandbox, credentials: CalendlyCredentials
) -> None:
    if arguments is None:
        assert name in WRITES
        return
    sync_task, async_task = twins(module, name)
    sandbox.set_clock(frozen=True)
    args, kwargs = arguments(sandbox)
    with nothing_unknown(sandbox):
        result = sync_task.fn(credentials, *args, **kwargs)
        assert result == asyncio.run(async_task.fn(credentials, *args, **kwargs))
    assert result
    assert set(sandbox.stats()["by_status"]) == {"200"}
    sandbox.set_clock(frozen=False)


@pytest.mark.parametrize(("module", "name"), NAMES)
async def test_the_sync_name_inside_a_running_loop_names_the_other(
    module: str, name: str, credentials: CalendlyCredentials
) -> None:
    sync_task, _ = twins(module, name)
    with pytest.raises(RuntimeError, match=rf"^`{name}` cannot run inside an event loop: use `await a{name}\("):
        sync_task.fn(credentials)


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_every_task_has_the_options_that_keep_it_safe(module: str, name: str) -> None:
    for task in twins(module, name):
        assert task.cache_policy is NO_CACHE
        assert task.persist_result is False
        assert not task.tags  # each costs a request to Prefect's server, and a lock on its database
        assert task.retry_condition_fn is (retry_write if name in WRITES else retry_read)
        assert task.retries == 0  # the client repeats; a task only if its user says so
        assert re.fullmatch(r"[A-Z][A-Za-z ]+", task.name)  # what a person calls it


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_both_names_have_one_signature_and_one_docstring(module: str, name: str) -> None:
    sync_task, async_task = twins(module, name)
    assert (sync_task.isasync, async_task.isasync) == (False, True)
    assert (sync_task.fn.__name__, async_task.fn.__name__) == (name, f"a{name}")
    signature = inspect.signature(sync_task.fn)
    assert signature == inspect.signature(async_task.fn)
    first, *others = signature.parameters.values()
    assert (first.name, first.annotation) == ("credentials", CalendlyCredentials)
    document = inspect.getdoc(async_task.fn) or ""
    assert document == inspect.getdoc(sync_task.fn) == sync_task.description
    assert document.splitlines()[0].endswith((".", ";"))
    for part in ("Source: ", "\nArgs:\n    credentials: ", "\nRaises:\n", "\nExample:\n    ```python\n"):
        assert part in document
    assert ("\nReturns:\n" in document) == ("delete" not in name)
    for other in others:
        assert f"\n    {other.name}: " in document


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_help_shows_how_each_name_is_called_and_what_comes_back(module: str, name: str) -> None:
    sync_task, async_task = twins(module, name)
    returned = sync_task.fn.__annotations__["return"]
    assert returned.startswith("list[") == ("list" in name)
    documented = (inspect.getdoc(sync_task) or "").splitlines()[0].replace("'", "")
    for task, shown in ((sync_task, returned), (async_task, f"Awaitable[{returned}]")):
        text = " ".join(pydoc.render_doc(task, renderer=pydoc.plaintext).replace("'", "").split())
        assert f") -> {shown} {documented}" in text
    assert "client" not in typing.get_type_hints(sync_task)


def test_the_catalogue_is_complete() -> None:
    rooms = {module for module, _ in NAMES}
    for module in rooms:
        tasks = {
            name
            for name, value in vars(importlib.import_module(f"prefect_calendly.{module}")).items()
            if isinstance(value, Task) and value.fn.__module__ == f"prefect_calendly.{module}"
        }
        expected = {name for room, name in NAMES if room == module}
        assert tasks == expected | {f"a{name}" for name in expected}


def test_type_checkers_see_the_exact_signatures(tmp_path: Path) -> None:
    snippet = tmp_path / "snippet.py"
    snippet.write_text(
        """
from datetime import datetime
from prefect_calendly import CalendlyCredentials
from prefect_calendly.scheduled_events import alist_scheduled_events, list_scheduled_events, list_scheduled_events_via
from prefect_calendly.users import aget_user, get_user, get_user_via

def sync_code(credentials: CalendlyCredentials) -> None:
    reveal_type(get_user(credentials, "AAAA"))
    reveal_type(list_scheduled_events(credentials, user="me", min_start_time=datetime.now()))
    get_user(credentials)
    get_user("key", "AAAA")
    list_scheduled_events(credentials, status="bogus")
    list_scheduled_events(credentials, bogus=1)
    aget_user(credentials, "AAAA")
    print(aget_user(credentials, "AAAA").name)

async def async_code(credentials: CalendlyCredentials) -> None:
    reveal_type(await aget_user(credentials, "AAAA"))
    reveal_type(await alist_scheduled_events(credentials))
    async with credentials.get_client() as client:
        reveal_type(await get_user_via(client, "AAAA"))
        async for event in list_scheduled_events_via(client, user="me"):
            reveal_type(event)
    aget_user(credentials, "AAAA")
    print(len(alist_scheduled_events(credentials)))
"""
    )
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--no-color-output", str(snippet)]
    cache = Path(__file__).parents[1] / ".mypy_cache"
    answer = subprocess.run(
        [*command, f"--cache-dir={cache}"], capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1]
    )
    revealed = re.findall(r'Revealed type is "(.*)"', answer.stdout)
    assert revealed == [
        "prefect_calendly.users.User",
        "list[prefect_calendly.scheduled_events.ScheduledEvent]",
        "prefect_calendly.users.User",
        "list[prefect_calendly.scheduled_events.ScheduledEvent]",
        "prefect_calendly.users.User",
        "prefect_calendly.scheduled_events.ScheduledEvent",
    ]
    wrong = {int(number): code for number, code in re.findall(r"snippet\.py:(\d+): error: .*\[(.*)\]", answer.stdout)}
    forgotten_await = {14: "unused-coroutine", 15: "attr-defined", 24: "unused-coroutine", 25: "arg-type"}
    assert wrong == dict.fromkeys((10, 11, 12, 13), "call-overload") | forgotten_await, answer.stdout


# Inside Prefect

PASSING = [errors.NetworkError("x"), errors.ServerError("x"), errors.ExternalCalendarError("x")]
FINAL = [
    errors.BadRequestError("x"),
    errors.GatewayKeyError("x"),
    errors.NotFoundError("x"),
    errors.InvalidAnswerError("x"),
    errors.UnconfirmedWriteError("x"),
    ValueError("x"),
]


@pytest.mark.parametrize("error", [*PASSING, *FINAL, errors.RateLimitedError("x")], ids=lambda e: type(e).__name__)
async def test_a_reading_task_runs_again_for_what_passes_by_itself(error: Exception) -> None:
    state = Failed(data=error)
    assert await retry_read(aget_current_user, None, state) is (error not in FINAL)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "error",
    [*PASSING, *FINAL, errors.RateLimitedError("x"), errors.NetworkError("x", maybe_sent=False)],
    ids=lambda e: type(e).__name__,
)
async def test_a_writing_task_runs_again_only_if_nothing_was_looked_at(error: Exception) -> None:
    again = isinstance(error, errors.RateLimitedError) or getattr(error, "maybe_sent", True) is False
    assert await retry_write(aget_current_user, None, Failed(data=error)) is again  # type: ignore[arg-type]


async def test_in_an_async_flow_an_outage_beyond_the_clients_patience_is_survived_by_the_task(
    prefect_server: None, sandbox: Sandbox, credentials: CalendlyCredentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CalendlyCredentials, "retry", IMPATIENT)
    sandbox.fault("server_error", path="/users/me", times=5)

    @flow
    async def outage() -> User:
        return await aget_current_user.with_options(retries=2)(credentials)

    assert (await outage()).uri.endswith(ALICE)
    assert sandbox.stats()["by_status"] == {"500": 5, "200": 1}


def test_in_a_sync_flow_too_and_what_is_final_is_not_run_again(
    prefect_server: None, sandbox: Sandbox, credentials: CalendlyCredentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CalendlyCredentials, "retry", IMPATIENT)
    sandbox.fault("server_error", path="/users/me", times=5)

    @flow
    def outage() -> tuple[User, int]:
        user = get_current_user.with_options(retries=2)(credentials)
        events = list_scheduled_events(credentials, user=user)
        with pytest.raises(errors.NotFoundError):
            get_user.with_options(retries=2)(credentials, "NOBODY")
        return user, len(events)

    user, count = outage()
    assert user.uri.endswith(ALICE)
    assert count > 5
    by_status = sandbox.stats()["by_status"]
    assert (by_status["500"], by_status["404"]) == (5, 1)


async def test_a_lost_write_is_not_repeated_by_a_retrying_task(
    prefect_server: None, sandbox: Sandbox, credentials: CalendlyCredentials
) -> None:
    from prefect_calendly.api import acall_endpoint

    uri = sandbox.add_event(sandbox.clock() + timedelta(days=3))
    path = f"/scheduled_events/{uri.rpartition('/')[2]}/cancellation"
    sandbox.fault("drop_before", route="/scheduled_events/{uuid}/cancellation", times=None)

    @flow
    async def lost() -> None:
        eager = acall_endpoint.with_options(retries=3, retry_delay_seconds=0, retry_jitter_factor=None)
        with pytest.raises(errors.NetworkError):
            await eager(credentials, "POST", path, json={})

    await lost()
    assert sandbox.stats()["by_route"] == {"POST /scheduled_events/{uuid}/cancellation": 1}


async def test_the_sync_name_in_an_async_flow_fails_clearly(
    prefect_server: None, credentials: CalendlyCredentials
) -> None:
    @flow
    async def mixed_up() -> None:
        with pytest.raises(RuntimeError, match=r"use `await aget_current_user\(…\)`"):
            get_current_user(credentials)

    await mixed_up()


async def test_the_endpoint_behind_a_task_runs_on_an_open_client(credentials: CalendlyCredentials) -> None:
    async with credentials.get_client() as client:
        user = await get_current_user_via(client)
        events = [event async for event in list_scheduled_events_via(client, user=user, limit=3)]
    assert len(events) == 3


def test_a_task_of_ones_own_is_made_the_same_way(credentials: CalendlyCredentials) -> None:
    async def count_via(client: CalendlyClient, factor: int) -> int:
        """Count."""
        return factor * len((await client.request("GET", "/users/me"))["resource"])

    async def list_numbers_via(client: CalendlyClient, stop: int) -> AsyncIterator[int]:
        """List."""
        for number in range(stop):
            yield number

    @client_task("Count twice")
    async def count_twice(client: CalendlyClient) -> int:
        return await count_via(client, 2)

    _, count = make_tasks("Count things", count_via, writes=True)
    alist_numbers, list_numbers = make_tasks("List numbers", list_numbers_via)
    assert count.fn(credentials, 2) == asyncio.run(count_twice.fn(credentials)) == 2 * len(User.model_fields)
    assert list_numbers.fn(credentials, stop=3) == [0, 1, 2]
    assert asyncio.run(alist_numbers.fn(credentials, 2)) == [0, 1]
    assert inspect.signature(list_numbers).return_annotation == "list[int]"
    assert inspect.signature(alist_numbers).return_annotation == "Awaitable[list[int]]"
    assert inspect.signature(count).return_annotation is int
    assert inspect.signature(count_twice).return_annotation == "Awaitable[int]"
    assert count.retry_condition_fn is retry_write
