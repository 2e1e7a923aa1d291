"""How an endpoint, written once as a function of a client, becomes a Prefect task and its sync twin.

The tasks keep the endpoint's signature: type checkers, completion and Prefect see its own arguments, with the
credentials block in the client's place.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar, overload

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun

from prefect_calendly.client import CalendlyClient
from prefect_calendly.client.errors import ExternalCalendarError, NetworkError, RateLimitedError, ServerError
from prefect_calendly.credentials import CalendlyCredentials

P = ParamSpec("P")
R = TypeVar("R")

Endpoint = Callable[Concatenate[CalendlyClient, P], Coroutine[Any, Any, R]]
Listing = Callable[Concatenate[CalendlyClient, P], AsyncIterator[R]]
AsyncTask = Task[Concatenate[CalendlyCredentials, P], Coroutine[Any, Any, R]]
SyncTask = Task[Concatenate[CalendlyCredentials, P], R]

T = TypeVar("T")

_SUFFIX = "_via"


@overload
def make_tasks(
    name: str, endpoint: Endpoint[P, R], *, writes: bool = False
) -> tuple[AsyncTask[P, R], SyncTask[P, R]]: ...
@overload
def make_tasks(
    name: str, endpoint: Listing[P, R], *, writes: bool = False
) -> tuple[AsyncTask[P, list[R]], SyncTask[P, list[R]]]: ...
def make_tasks(name: str, endpoint: Callable[..., Any], *, writes: bool = False) -> Any:
    """Make the two tasks of an endpoint: `get_user_via` becomes `aget_user` for async flows, and `get_user`.

    Args:
        name: What a person calls this step.
        endpoint: A coroutine function of a client, or an async generator function, whose tasks return a list. Its
            name ends in `_via`.
        writes: Whether it changes something in Calendly; such a task is never retried blindly.

    Returns:
        The async task and its sync twin; the first argument of both is a credentials block.

    Example:
        ```python
        async def count_hosts_via(client: CalendlyClient, event: str) -> int:
            return len((await get_scheduled_event_via(client, event)).event_memberships)

        acount_hosts, count_hosts = make_tasks("Count the hosts of an event", count_hosts_via)
        print(count_hosts.fn(credentials, "DDDDDDDDDDDDDDDD"))
        ```
    """
    async_task = client_task(name, writes=writes)(endpoint)
    return async_task, _sync_twin(async_task, writes=writes)


def client_task(name: str, *, writes: bool = False) -> Callable[[Endpoint[P, R]], AsyncTask[P, R]]:
    """Make an async task of a step of one's own: a coroutine function of a client that may call many endpoints.

    Args:
        name: What a person calls this step.
        writes: Whether it changes something in Calendly; such a task is never retried blindly.

    Returns:
        A decorator; the task's first argument is a credentials block.
    """

    def decorate(endpoint: Callable[..., Any]) -> Any:
        async def call(credentials: CalendlyCredentials, *args: Any, **kwargs: Any) -> Any:
            async with _client(credentials) as client:
                if inspect.isasyncgenfunction(endpoint):
                    return [item async for item in endpoint(client, *args, **kwargs)]
                return await endpoint(client, *args, **kwargs)

        functools.update_wrapper(call, endpoint)
        if endpoint.__name__.endswith(_SUFFIX):
            call.__name__ = call.__qualname__ = f"a{endpoint.__name__.removesuffix(_SUFFIX)}"
        return _task(call, endpoint, name, writes=writes)

    return decorate


def _sync_twin(task: Task[..., Any], *, writes: bool) -> Any:
    async_fn = task.fn
    name = async_fn.__name__.removeprefix("a")

    @functools.wraps(async_fn)
    def call(credentials: CalendlyCredentials, *args: Any, **kwargs: Any) -> Any:
        return run_sync(lambda: async_fn(credentials, *args, **kwargs), name, async_fn.__name__)

    call.__name__ = call.__qualname__ = name
    return _task(call, async_fn, task.name, writes=writes)


def _task(fn: Callable[..., Any], endpoint: Callable[..., Any], name: str, *, writes: bool) -> Task[..., Any]:
    signature = _signature(endpoint)
    fn.__signature__ = signature  # type: ignore[attr-defined]
    annotations = {parameter.name: parameter.annotation for parameter in signature.parameters.values()}
    annotations["return"] = signature.return_annotation
    fn.__annotations__ = {key: value for key, value in annotations.items() if value is not inspect.Signature.empty}
    task = Task(
        fn=fn,
        name=name,
        description=inspect.getdoc(endpoint),
        # No tags: for each tag of a task, Prefect asks its server for a concurrency limit, once per run.
        # Prefect's cache key masks secrets: with a cache, one account would be served another's data.
        cache_policy=NO_CACHE,
        # Results hold personal data: they stay in memory unless the user says otherwise.
        persist_result=False,
        # The client repeats what is safe. This keeps additional `retries` of a user safe, too.
        retry_condition_fn=retry_write if writes else retry_read,
    )
    if task.isasync:  # `help` shows `async` for functions only
        task.__signature__ = signature.replace(  # type: ignore[attr-defined]
            return_annotation=f"Awaitable[{_text(signature.return_annotation)}]"
        )
    return task


def _signature(endpoint: Callable[..., Any]) -> inspect.Signature:
    """Return the signature of an endpoint's task: credentials instead of the client, a list instead of a generator."""
    signature = inspect.signature(endpoint)
    credentials = inspect.Parameter(
        "credentials", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=CalendlyCredentials
    )
    returned = signature.return_annotation
    if inspect.isasyncgenfunction(endpoint):
        returned = re.sub(r"^[\w.]*AsyncIterator\[", "list[", _text(returned))
    return signature.replace(
        parameters=[credentials, *list(signature.parameters.values())[1:]], return_annotation=returned
    )


def _text(annotation: Any) -> str:
    if annotation is inspect.Signature.empty:
        return "Any"
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _client(credentials: CalendlyCredentials) -> CalendlyClient:
    if not isinstance(credentials, CalendlyCredentials):
        raise TypeError(
            f"credentials must be a CalendlyCredentials block, not {type(credentials).__name__}: "
            'CalendlyCredentials.load("…"), in async code await CalendlyCredentials.aload("…")'
        )
    return credentials.get_client()


async def retry_read(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Say whether to retry a failed reading task: only after errors that pass by themselves."""
    error = await state.aresult(raise_on_failure=False)
    return isinstance(error, NetworkError | ServerError | ExternalCalendarError | RateLimitedError)


async def retry_write(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Say whether to retry a failed writing task: only if Calendly has not processed the request."""
    error = await state.aresult(raise_on_failure=False)
    return isinstance(error, RateLimitedError) or (isinstance(error, NetworkError) and not error.maybe_sent)


def run_sync(call: Callable[[], Coroutine[Any, Any, T]], name: str, async_name: str) -> T:
    """Run a coroutine function to its end in an event loop of its own.

    Args:
        call: Makes the coroutine.
        name: What the caller called, for the error text.
        async_name: What to call instead where an event loop is running.

    Returns:
        The coroutine's result.

    Raises:
        RuntimeError: An event loop is running in this thread.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        inside = False
    else:
        inside = True
    if inside:
        raise RuntimeError(f"`{name}` cannot run inside an event loop: use `await {async_name}(…)` in async code")
    return asyncio.run(call())
