"""What the receiver's tests run: a Prefect that misbehaves on demand, receivers, and somebody who delivers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import uvicorn
from prefect.settings import PREFECT_API_URL, temporary_settings
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from prefect_calendly.webhooks.__main__ import config_of
from prefect_calendly.webhooks.receiver import ReceiverSettings, create_app
from prefect_calendly.webhooks.signature import HEADER, sign

SUMMARY = "calendly.receiver.summary"
KEY = "whsec-of-the-tests"
PATH = "/webhooks/calendly"


class _Server(uvicorn.Server):
    async def main_loop(self) -> None:
        """Like uvicorn's, which looks less often whether it is to end."""
        count = 0
        while not await self.on_tick(count):
            count = (count + 1) % 1000
            await asyncio.sleep(0.01)


class _Served:
    """An ASGI application on a port of its own, in a thread."""

    def __init__(self, app: ASGIApp, prefect: str | None = None, port: int = 0) -> None:
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        self._server = _Server(config_of(app))
        self._prefect = prefect
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "it did not start"
            time.sleep(0.005)

    def _run(self) -> None:
        with temporary_settings({} if self._prefect is None else {PREFECT_API_URL: self._prefect}), self._listener:
            self._server.run(sockets=[self._listener])

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()


class FakePrefect:
    """The part of a Prefect server that a receiver needs; stores at once what it is told."""

    NO_BLOCK = "s3cret"
    """Among `secrets`: it answers something that cannot be read."""

    def __init__(self) -> None:
        self.stored: dict[UUID, dict[str, Any]] = {}
        self.told: Counter[UUID] = Counter()
        """How often it took each event, other than summaries."""
        self.posts = 0
        self.forgets = False
        """It takes events, and does not store them."""
        self.secrets: dict[str, Any] = {}
        self.refuses: Callable[[dict[str, Any]], bool] = lambda event: False
        self.status = 0
        """Answer everything with this."""
        self.answers = threading.Event()
        """While it is not set, posts get no answer."""
        self.answers.set()
        self.asked = threading.Event()
        """Somebody has posted."""
        self._served: _Served | None = None
        self._port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/api"

    def named(self, event: str) -> list[dict[str, Any]]:
        return [each for each in self.stored.values() if each["event"] == event]

    def start(self) -> None:
        routes = [
            Route("/api/ready", self._ready),
            Route("/api/csrf-token", self._csrf),
            Route("/api/events", self._events, methods=["POST"]),
            Route("/api/events/filter", self._filter, methods=["POST"]),
            Route("/api/block_types/slug/secret/block_documents/name/{name}", self._secret),
        ]
        self._served = _Served(Starlette(routes=routes), port=self._port)
        self._port = self._served.port

    def stop(self) -> None:
        """From now on connections are refused; what it knows stays."""
        served, self._served = self._served, None
        if served is not None:
            served.stop()

    async def _ready(self, _request: Request) -> Response:
        return JSONResponse({"message": "OK"}, self.status or 200)

    async def _csrf(self, _request: Request) -> Response:
        return JSONResponse({"detail": "CSRF protection is disabled."}, 422)

    async def _events(self, request: Request) -> Response:
        self.posts += 1
        self.asked.set()
        while not self.answers.is_set():
            await asyncio.sleep(0.01)
            if self._served is None:
                return Response(status_code=503)
        if self.status:
            return Response(status_code=self.status)
        events = await request.json()
        if any(self.refuses(event) for event in events):
            return JSONResponse({"detail": "secret-password"}, 422)
        for event in events:
            if event["event"] != SUMMARY:
                self.told[UUID(event["id"])] += 1
            if not self.forgets:
                self.stored.setdefault(UUID(event["id"]), event)
        return Response(status_code=204)

    async def _filter(self, request: Request) -> Response:
        if self.status:
            return Response(status_code=self.status)
        wanted = map(UUID, (await request.json())["filter"]["id"]["id"])
        found = [self.stored[each] for each in wanted if each in self.stored]
        return JSONResponse({"events": found, "total": len(found), "next_page": None})

    async def _secret(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self.secrets:
            return JSONResponse({"detail": "Block document not found"}, 404)
        number = "00000000-0000-4000-8000-000000000000"
        if self.secrets[name] == self.NO_BLOCK:
            return JSONResponse({"data": self.NO_BLOCK})
        block = {"name": name, "data": {"value": self.secrets[name]}}
        return JSONResponse({**block, "block_schema_id": number, "block_type_id": number})


@dataclass
class Receiver:
    """A receiver that runs, and one who delivers to it."""

    url: str
    key: str | None = KEY
    process: subprocess.Popen[str] | None = None
    http: httpx.Client = field(default_factory=lambda: httpx.Client(trust_env=False, timeout=30))

    @property
    def address(self) -> tuple[str, int]:
        url = httpx.URL(self.url)
        return url.host, url.port or 80

    def headers(self, body: bytes, *, key: str | None = None, age: float = 0) -> dict[str, str]:
        """A delivery's headers, signed so many seconds ago."""
        headers = {"content-type": "application/json"}
        if key := key or self.key:
            headers[HEADER] = sign(body, key, datetime.now(UTC) - timedelta(seconds=age))
        return headers

    def deliver(self, delivery: dict[str, Any] | bytes, **how: Any) -> httpx.Response:
        body = delivery if isinstance(delivery, bytes) else json.dumps(delivery).encode()
        return self.http.post(self.url, content=body, headers=self.headers(body, **how))

    async def deliver_all(self, deliveries: list[dict[str, Any]], at_once: int = 50) -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=at_once)
        async with httpx.AsyncClient(trust_env=False, timeout=60, limits=limits) as http:
            bodies = [json.dumps(each).encode() for each in deliveries]
            posts = [http.post(self.url, content=body, headers=self.headers(body)) for body in bodies]
            return await asyncio.gather(*posts)

    def get(self, path: str) -> httpx.Response:
        return self.http.get(str(httpx.URL(self.url).join(path)))

    def counted(self, name: str, **labels: str) -> float:
        """A metric, without its prefix `calendly_webhook_`."""
        name = f"calendly_webhook_{name}"
        samples = (
            each for family in text_string_to_metric_families(self.get("/metrics").text) for each in family.samples
        )
        return sum(each.value for each in samples if each.name == name and labels.items() <= each.labels.items())


def settings(store: Path | str, **changes: Any) -> ReceiverSettings:
    """Settings of a receiver in a hurry."""
    url = store if isinstance(store, str) else f"sqlite:///{store}"
    quick = {"handover_seconds": 1.0, "confirm_seconds": 0.2, "again_seconds": 0.5, "look_seconds": 0.1}
    keys = {} if changes.get("insecure") or "signing_key_block" in changes else {"signing_keys": [KEY]}
    return ReceiverSettings(**{"store": url, **quick, **keys, **changes})


@contextlib.contextmanager
def running(settings: ReceiverSettings, prefect: str) -> Iterator[Receiver]:
    """Run a receiver in a thread."""
    served = _Served(create_app(settings), prefect)
    receiver = Receiver(f"http://127.0.0.1:{served.port}{settings.path}", None if settings.insecure else KEY)
    try:
        yield receiver
    finally:
        receiver.http.close()
        served.stop()


@contextlib.contextmanager
def process(store: Path, prefect: str, *arguments: str, log: Path | None = None, **more: str) -> Iterator[Receiver]:
    """Run a receiver as `python -m prefect_calendly.webhooks`; its log goes to a file."""
    log = log or store.with_name(f"receiver-{secrets.token_hex(3)}.log")
    command = [sys.executable, "-m", "prefect_calendly.webhooks", "--port", "0", "--store", f"sqlite:///{store}"]
    environment = {**os.environ, "PREFECT_API_URL": prefect, "CALENDLY_WEBHOOK_SIGNING_KEY": KEY, **more}
    with log.open("w") as output:
        process = subprocess.Popen([*command, *arguments], stderr=output, env=environment, text=True)
    try:
        while not (url := _listening(log)):
            assert process.poll() is None, log.read_text()
            time.sleep(0.02)
        yield Receiver(url, process=process)
    finally:
        process.kill()
        process.wait()


def _listening(log: Path) -> str | None:
    for line in log.read_text().splitlines(keepends=True):
        if line.endswith("\n") and (said := json.loads(line))["message"] == "listening":
            return str(said["url"])
    return None


def postgres_programs() -> Path | None:
    """The folder of the newest PostgreSQL's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None
