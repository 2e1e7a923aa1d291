"""What several test modules share: time that passes at once, a scripted server, and whose calls went out."""

from __future__ import annotations

import asyncio
import itertools
import selectors
from collections.abc import Callable, Coroutine
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import httpx
import pytest
from prefect.settings import get_current_settings

from prefect_calendly import client, connections, pace
from prefect_calendly.client import CalendlyClient
from prefect_calendly.sandbox import Sandbox

T = TypeVar("T")
_numbers = itertools.count()


class VirtualTime:
    """An event loop in which waiting takes no time and is counted: `now` tells the seconds that have passed."""

    def __init__(self) -> None:
        self.now = 0.0
        time = self

        class Selector(selectors.SelectSelector):
            def select(self, timeout: float | None = None) -> Any:
                if timeout is None:
                    raise RuntimeError("deadlock: everybody waits, for nothing")
                time.now += max(0.0, timeout)
                return super().select(0)

        class Loop(asyncio.SelectorEventLoop):
            def time(self) -> float:
                return 1_000_000.0 + time.now

        self._loop = lambda: Loop(Selector())

    def monotonic(self) -> float:
        return 1_000_000.0 + self.now

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        with asyncio.Runner(loop_factory=self._loop) as runner:
            return runner.run(work)


@pytest.fixture
def virtual_time(monkeypatch: pytest.MonkeyPatch) -> VirtualTime:
    """Time that passes at once, for the limiter, the client's retries and polling."""
    time = VirtualTime()
    for module in (pace, client, connections):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=time.monotonic))
    return time


Reply = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]


class Server(httpx.MockTransport):
    """Answers in the given order, the last one for ever; remembers every request."""

    def __init__(self, *replies: Reply) -> None:
        super().__init__(self._answer)
        self._replies = list(replies)
        self.requests: list[httpx.Request] = []

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        reply = self._replies[min(len(self.requests), len(self._replies)) - 1]
        if isinstance(reply, Exception):
            raise reply
        if isinstance(reply, httpx.Response):  # a response can be read once
            return httpx.Response(reply.status_code, headers=reply.headers, content=reply.content)
        return reply(request)

    @property
    def hosts(self) -> set[str]:
        return {request.url.host for request in self.requests}


def client_of(server: httpx.AsyncBaseTransport, **options: Any) -> CalendlyClient:
    """A client of a scripted server, fast unless told otherwise, with a key and thus a limiter of its own."""
    key = options.pop("api_key", f"key-{next(_numbers)}")
    return CalendlyClient(key, transport=server, **{"requests_per_second": 100_000, **options})


def ok(resource: Any = None, **headers: str) -> httpx.Response:
    return httpx.Response(200, json={"resource": resource or {}}, headers=headers)


def page(items: list[Any], token: str | None) -> httpx.Response:
    pagination = {
        "count": len(items),
        "next_page": f"https://evil.example/next?page_token={token}" if token else None,
        "previous_page": None,
        "next_page_token": token,
        "previous_page_token": None,
    }
    return httpx.Response(200, json={"collection": items, "pagination": pagination})


@contextmanager
def no_request(sandbox: Sandbox) -> Any:
    """Nothing may reach the sandbox inside the block."""
    before = sandbox.stats()["requests"]
    yield
    assert sandbox.stats()["requests"] == before


@contextmanager
def nothing_unknown(sandbox: Sandbox) -> Any:
    """The sandbox must know every parameter it is sent inside the block."""
    yield
    assert sandbox.stats()["unknown_parameters"] == []


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeats follow at once; what is repeated stays as it is."""
    monkeypatch.setattr(client, "_backoff", lambda failures: 0.0)
    monkeypatch.setattr(client, "_FIRST_BACKOFF_SECONDS", 0.0)


def uri(collection: str, uuid: str) -> str:
    return f"https://api.calendly.com/{collection}/{uuid}"


def database_of_prefect() -> list[Path]:
    """The files of the test server's database, its write-ahead log too."""
    url = str(get_current_settings().server.database.connection_url.get_secret_value())  # type: ignore[union-attr]
    path = Path(url.partition(":///")[2].partition("?")[0])
    return sorted(path.parent.glob(f"{path.name}*"))
