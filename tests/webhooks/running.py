"""Receivers that run, in a thread or as a process, and somebody who delivers to them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import sqlite3
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx
from prometheus_client.parser import text_string_to_metric_families

from prefect_calendly.webhooks.receiver import create_app
from prefect_calendly.webhooks.server import ServerLimits
from prefect_calendly.webhooks.settings import ReceiverSettings
from prefect_calendly.webhooks.signature import HEADER, sign
from tests.webhooks.served import Served

T = TypeVar("T")

_NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

KEY = "whsec-of-the-tests"
PATH = "/webhooks/calendly"


def local_client() -> httpx.Client:
    """A client for this machine: it needs no certificates, and loading them takes longer than a test."""
    return httpx.Client(trust_env=False, timeout=60, verify=_NO_CERTIFICATES)


@dataclass
class Receiver:
    """A receiver that runs, and one who delivers to it."""

    url: str
    key: str | None = KEY
    process: subprocess.Popen[str] | None = None
    http: httpx.Client = field(default_factory=lambda: local_client())

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
        async with httpx.AsyncClient(trust_env=False, timeout=60, limits=limits, verify=_NO_CERTIFICATES) as http:
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


def eventually(look: Callable[[], T], seconds: float = 60) -> T:
    """Look again and again, until there is something to see."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
    return found


def confirmed(receiver: Receiver, number: int) -> Callable[[], bool]:
    """Whether so many events were seen in Prefect, and none is left."""

    def look() -> bool:
        return receiver.counted("events_confirmed_total") >= number and not receiver.counted("events_unconfirmed")

    return look


def database(path: Path) -> contextlib.closing[sqlite3.Connection]:
    """A connection to a receiver's store."""
    return contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=10))


def settings(store: Path | str, **changes: Any) -> ReceiverSettings:
    """Settings of a receiver that confirms events quickly; whoever makes Prefect wait sets `handover_seconds`."""
    url = store if isinstance(store, str) else f"sqlite:///{store}"
    quick = {
        "handover_seconds": 30,
        "confirm_after_seconds": 0.05,
        "confirm_every_seconds": 0.05,
        "repost_after_seconds": 0.2,
        "key_pause_seconds": 0,
        "ready_seconds": 0,
    }
    keys = {} if changes.get("insecure") or "signing_key_block" in changes else {"signing_keys": [KEY]}
    return ReceiverSettings(**{"store": url, **quick, **keys, **changes})


@contextlib.contextmanager
def running(settings: ReceiverSettings, prefect: str, limits: ServerLimits | None = None) -> Iterator[Receiver]:
    """Run a receiver in a thread."""
    served = Served(create_app(settings), prefect, limits=limits)
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
