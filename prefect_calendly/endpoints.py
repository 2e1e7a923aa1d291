"""How an endpoint, written once as a function of a client, becomes a Prefect task and its sync twin.

The two decorators keep the signature: type checkers, completion and Prefect see the endpoint's own arguments, with
the credentials block in the client's place.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun

from prefect_calendly.client import CalendlyClient
from prefect_calendly.client.errors import ExternalCalendarError, NetworkError, RateLimitedError, ServerError
from prefect_calendly.credentials import CalendlyCredentials
from prefect_calendly.sync import run_sync

P = ParamSpec("P")
R = TypeVar("R")

AsyncTask = Task[Concatenate[CalendlyCredentials, P], Coroutine[Any, Any, R]]
SyncTask = Task[Concatenate[CalendlyCredentials, P], R]


async def retry_read(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Say whether a failed reading task is worth another run: only for what passes by itself."""
    error = await state.aresult(raise_on_failure=False)
    return isinstance(error, NetworkError | ServerError | ExternalCalendarError | RateLimitedError)


async def retry_write(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Say whether a failed writing task may run again: only if the request was never looked at."""
    error = await state.aresult(raise_on_failure=False)
    return isinstance(error, RateLimitedError) or (isinstance(error, NetworkError) and not error.maybe_sent)


def _client(credentials: CalendlyCredentials) -> CalendlyClient:
    if not isinstance(credentials, CalendlyCredentials):
        raise TypeError(
            f"credentials must be a CalendlyCredentials block, not {type(credentials).__name__}: "
            'CalendlyCredentials.load("…"), in async code await CalendlyCredentials.aload("…")'
        )
    return credentials.get_client()


def _as_task(fn: Callable[..., Any], endpoint: Callable[..., Any], name: str, *, writes: bool) -> Any:
    signature = inspect.signature(endpoint)
    credentials = inspect.Parameter(
        "credentials", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=CalendlyCredentials
    )
    fn.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[credentials, *list(signature.parameters.values())[1:]]
    )
    return Task(
        fn=fn,
        name=name,
        description=inspect.getdoc(endpoint),
        # No tags: Prefect would ask its server for the concurrency limits of that name, and wait for its database.
        # Prefect's cache key masks secrets: with a cache, one account would be served another's data.
        cache_policy=NO_CACHE,
        # Results hold personal data: they stay in memory unless the user says otherwise.
        persist_result=False,
        # The client repeats what is safe. Whoever wants more sets `retries`; this keeps them safe too.
        retry_condition_fn=retry_write if writes else retry_read,
    )


def endpoint_task(
    name: str, *, writes: bool = False
) -> Callable[[Callable[Concatenate[CalendlyClient, P], Coroutine[Any, Any, R]]], AsyncTask[P, R]]:
    """Make an async task of an endpoint: a coroutine function of a client.

    Args:
        name: What a person calls this step.
        writes: Whether it changes something in Calendly; such a task is not run again blindly.

    Returns:
        A decorator; the task's first argument is a credentials block.
    """

    def decorate(
        endpoint: Callable[Concatenate[CalendlyClient, P], Coroutine[Any, Any, R]],
    ) -> AsyncTask[P, R]:
        @functools.wraps(endpoint)
        async def call(credentials: CalendlyCredentials, *args: P.args, **kwargs: P.kwargs) -> R:
            async with _client(credentials) as client:
                return await endpoint(client, *args, **kwargs)

        task: AsyncTask[P, R] = _as_task(call, endpoint, name, writes=writes)
        return task

    return decorate


def listing_task(
    name: str,
) -> Callable[[Callable[Concatenate[CalendlyClient, P], AsyncIterator[R]]], AsyncTask[P, list[R]]]:
    """Make an async task of a listing: an async generator function of a client; the task returns a list.

    Args:
        name: What a person calls this step.

    Returns:
        A decorator; the task's first argument is a credentials block.
    """

    def decorate(
        endpoint: Callable[Concatenate[CalendlyClient, P], AsyncIterator[R]],
    ) -> AsyncTask[P, list[R]]:
        @functools.wraps(endpoint)
        async def call(credentials: CalendlyCredentials, *args: P.args, **kwargs: P.kwargs) -> list[R]:
            async with _client(credentials) as client:
                return [item async for item in endpoint(client, *args, **kwargs)]

        task: AsyncTask[P, list[R]] = _as_task(call, endpoint, name, writes=False)
        return task

    return decorate


def sync_twin(task: AsyncTask[P, R]) -> SyncTask[P, R]:
    """Make the plain twin of an async task, for flows that are not async; its name lacks the `a` in front.

    Args:
        task: What `endpoint_task` or `listing_task` made.

    Returns:
        A task with the same arguments; called inside an event loop, it raises RuntimeError and names the other.
    """
    async_fn = task.fn
    async_name = async_fn.__name__
    name = async_name.removeprefix("a")

    @functools.wraps(async_fn)
    def call(credentials: CalendlyCredentials, *args: P.args, **kwargs: P.kwargs) -> R:
        return run_sync(lambda: async_fn(credentials, *args, **kwargs), name, async_name)

    call.__name__ = call.__qualname__ = name
    twin: SyncTask[P, R] = _as_task(call, async_fn, task.name, writes=task.retry_condition_fn is retry_write)
    return twin


def on_client(task: AsyncTask[P, R]) -> Callable[Concatenate[CalendlyClient, P], Coroutine[Any, Any, R]]:
    """Return the endpoint behind an async task: a coroutine function of an open client, without Prefect.

    Args:
        task: An async task of one endpoint.

    Returns:
        The function that the task was made of.

    Example:
        ```python
        async with credentials.get_client() as client:
            user = await on_client(aget_current_user)(client)
        ```
    """
    return _endpoint(task, listing=False)  # type: ignore[no-any-return]


def stream(task: AsyncTask[P, list[R]]) -> Callable[Concatenate[CalendlyClient, P], AsyncIterator[R]]:
    """Return the listing behind an async task: an async generator on an open client that holds one page at a time.

    Args:
        task: An async task of a listing, such as `alist_scheduled_events`.

    Returns:
        The function that the task was made of.

    Example:
        ```python
        async with credentials.get_client() as client:
            async for event in stream(alist_scheduled_events)(client, user="AAAAAAAAAAAAAAAA"):
                print(event.start_time)
        ```
    """
    return _endpoint(task, listing=True)  # type: ignore[no-any-return]


def _endpoint(task: Task[..., Any], *, listing: bool) -> Any:
    endpoint = task.fn.__wrapped__  # type: ignore[attr-defined]
    if inspect.isasyncgenfunction(endpoint) != listing:
        other = "stream(…)" if not listing else "on_client(…)"
        raise TypeError(f"{task.fn.__name__} {'comes' if not listing else 'does not come'} page by page: use {other}")
    return endpoint
