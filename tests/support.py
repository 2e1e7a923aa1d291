"""What several test modules share: time that passes at once, a scripted server, and whose calls went out."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil
import pytest
from prefect.artifacts import Artifact
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, get_current_settings
from pydantic import BaseModel

from deployments.processes import MARK
from prefect_calendly import CalendlyCredentials
from prefect_calendly.client import CalendlyClient, RetryPolicy
from prefect_calendly.client.pace import PROCESS_LIMITS, Limits
from prefect_calendly.sandbox import Sandbox
from tests.endurance.running import FailedError
from tests.postgres import Postgres, find_postgres, running_postgres

T = TypeVar("T")
_numbers = itertools.count()


class VirtualTime:
    """An event loop in which waiting takes no time and is counted.

    `now` is the seconds that have passed, `monotonic` a clock that shows them; `limits` run on that clock, and
    `client_of` gives them to the clients that it makes inside of `run`.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.limits = Limits(self.monotonic)
        time = self

        class Selector(selectors.SelectSelector):
            def select(self, timeout: float | None = None) -> Any:
                if timeout is None:
                    raise RuntimeError("deadlock: everybody waits, for nothing")
                time.now += max(0.0, timeout)
                return super().select(0)

        class Loop(asyncio.SelectorEventLoop):
            limits = self.limits

            def time(self) -> float:
                return time.monotonic()

        self.new_loop: Callable[[], asyncio.AbstractEventLoop] = lambda: Loop(Selector())

    def monotonic(self) -> float:
        return 1_000_000.0 + self.now

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        with asyncio.Runner(loop_factory=self.new_loop) as runner:
            return runner.run(work)


@pytest.fixture
def virtual_time() -> VirtualTime:
    """Time that passes at once, for the limiter, the client's repeats and polling."""
    return VirtualTime()


IMPATIENT = RetryPolicy(first_backoff_seconds=0.0)
"""Repeats follow at once; what is repeated stays as it is."""


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients of credentials repeat without a pause."""
    monkeypatch.setattr(CalendlyCredentials, "retry", IMPATIENT)


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
    defaults = {"requests_per_second": 100_000, "limits": getattr(_running_loop(), "limits", PROCESS_LIMITS)}
    return CalendlyClient(key, transport=server, **{**defaults, **options})


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


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
def run_logs() -> Iterator[list[str]]:
    """Everything that flow and task runs log."""
    lines: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    handler, logger = Handler(), logging.getLogger("prefect")
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


async def artifact(key: str) -> Any:
    """The newest version of an artifact's data."""
    found = await Artifact.aget(key)
    assert found is not None
    return found.data


def form_errors(model: type[BaseModel], **entered: Any) -> list[str]:
    """What Prefect's form says of what a person has entered: its server knows the schema only, no validator of ours."""
    from prefect.utilities.schema_tools.validation import validate  # takes a while, and few tests need it

    return [error.message for error in validate(entered, model.model_json_schema())]


def uri(collection: str, uuid: str) -> str:
    return f"https://api.calendly.com/{collection}/{uuid}"


def database_of_prefect() -> list[Path]:
    """The files of the test server's database, its write-ahead log too."""
    url = str(get_current_settings().server.database.connection_url.get_secret_value())  # type: ignore[union-attr]
    path = Path(url.partition(":///")[2].partition("?")[0])
    return sorted(path.parent.glob(f"{path.name}*"))


ROOT = Path(__file__).parent.parent


class _Patient(httpx.HTTPTransport):
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        for _ in range(20):
            if (answer := super().handle_request(request)).status_code != 503:
                break
            answer.close()
            time.sleep(0.5)
        return answer


@dataclass(frozen=True)
class Stack:
    """What `make up` runs: a sandbox, a Prefect server with UI, a worker, the deployments and their first runs."""

    process: subprocess.Popen[str]
    home: Path
    log: Path
    """What a person would see."""
    api_url: str
    ui_url: str
    receiver_url: str
    sandbox_url: str
    sandbox_key: str
    auth_string: str

    @property
    def settings(self) -> dict[Any, str]:
        """What Prefect's client needs to use the server."""
        return {PREFECT_API_URL: self.api_url, PREFECT_API_AUTH_STRING: self.auth_string}

    @property
    def environment(self) -> dict[str, str]:
        """The same for another process."""
        return {setting.name: value for setting, value in self.settings.items()}

    def prefect(self) -> httpx.Client:
        """A client of the Prefect server."""
        return prefect_api(self.api_url, self.auth_string)


def prefect_api(api_url: str, auth_string: str) -> httpx.Client:
    """A client of a Prefect server with a password, patient with its SQLite: 503 says that the database is locked."""
    user, _, password = auth_string.partition(":")
    return httpx.Client(base_url=api_url, auth=(user, password), transport=_Patient(), timeout=120)


def processes_of(home: Path) -> list[psutil.Process]:
    """All processes that are marked with a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(home):
                found.append(process)
        except psutil.Error:
            continue
    return found


@contextmanager
def running_stack(home: Path, *arguments: str, events: int = 60) -> Iterator[Stack]:
    """Run `make up` in a folder until the block ends; it is ready inside."""
    home.mkdir(exist_ok=True)
    log = home.with_name(f"{home.name}.log")
    command = [sys.executable, "-m", "deployments.up", "--home", str(home), "--events", str(events), *arguments]
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, text=True, start_new_session=True)
    try:
        deadline = time.monotonic() + 600
        while not (home / "up.json").exists():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield Stack(process, home, log, **json.loads((home / "up.json").read_text()))
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """One PostgreSQL for all tests that need one. Where it is not installed, they are skipped; in CI, they fail."""
    try:
        programs = find_postgres()
    except FailedError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
    with running_postgres(programs, tmp_path_factory.mktemp("postgres") / "postgres.log", "fsync=off") as postgres:
        yield postgres


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One `make up` for all tests that need one; nothing runs in it by itself.

    Its folder has the name by which Prefect opens one connection to its database only, see `tests.prefect_server`.
    """
    with running_stack(tmp_path_factory.mktemp("stack") / ":memory:", "--no-schedules") as stack:
        yield stack


def until(look: Callable[[], T], seconds: float = 300) -> T:
    """Look again and again, until there is something to see."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.3)
    return found
