"""The receiver under load, beside a bare Starlette endpoint that reads the body, and itself without the hand-over."""

from __future__ import annotations

import asyncio
import json
import secrets
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from benchmarks.claims import Claim
from deployments.local import own_environment
from deployments.processes import contained, free_port
from prefect_calendly.webhooks.signature import HEADER, sign
from tests.endurance.running import Processes, metric, until
from tests.webhooks.examples import booking

AT_ONCE = 50
"""Connections; each sends its next delivery when the last is answered."""
PER_ROUND = 2_000
OTHERS = {"bare": "bare Starlette", "stubbed": "hand-over stubbed"}

BARE = """
import sys
import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

async def read(request):
    await request.body()
    return JSONResponse({"status": "accepted"})

async def ready(request):
    return JSONResponse({"status": "ready"})

app = Starlette(routes=[Route("/webhooks/calendly", read, methods=["POST"]), Route("/readyz", ready)])
uvicorn.run(app, port=int(sys.argv[1]), http="h11", loop="asyncio", access_log=False, log_level="warning")
"""
STUBBED = """
import sys
from prefect_calendly.webhooks.__main__ import main
from prefect_calendly.webhooks.handover import Handover

async def taken(self, events):
    return True

Handover.hand_over = taken
sys.exit(main(["--port", sys.argv[1], "--store", sys.argv[2]]))
"""


@dataclass(frozen=True)
class Load:
    """How deliveries were answered."""

    seconds: float
    latencies: list[float]

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.seconds

    @property
    def p99(self) -> float:
        return statistics.quantiles(self.latencies, n=100)[98]


def webhooks(rounds: int, deliveries: int) -> Iterator[Claim]:
    """Deliveries a second and the slowest answers as ratios, and memory through many deliveries."""
    with tempfile.TemporaryDirectory(prefix="calendly-bench-") as folder, contained(home := Path(folder)):
        yield from _claims(_Servers(home), rounds, deliveries)


class _Servers:
    """A Prefect server, and all that takes deliveries, each in a process of its own."""

    def __init__(self, home: Path) -> None:
        self.key = secrets.token_hex(24)
        self.ports = {name: free_port() for name in ("prefect", *OTHERS, "receiver")}
        urls = {name: f"http://127.0.0.1:{port}" for name, port in self.ports.items()}
        self.receiver = urls["receiver"]
        environment = own_environment(
            home,
            PREFECT_API_URL=f"{urls['prefect']}/api",
            PREFECT_SERVER_API_PORT=str(self.ports["prefect"]),
            CALENDLY_WEBHOOK_SIGNING_KEY=self.key,
        )
        self.processes = Processes(home)

        def start(name: str, answers: str, *command: str) -> None:
            self.processes.start(name, list(command), environment, urls[name] + answers)

        port, store = {name: str(port) for name, port in self.ports.items()}, f"sqlite:///{home}/"
        start("prefect", "/api/health", "-m", "prefect", "server", "start")
        start("bare", "/readyz", "-c", BARE, port["bare"])
        start("stubbed", "/readyz", "-c", STUBBED, port["stubbed"], f"{store}stubbed.db")
        arguments = ("--port", port["receiver"], "--store", f"{store}receiver.db")
        start("receiver", "/readyz", "-m", "prefect_calendly.webhooks", *arguments)

    def load(self, name: str, deliveries: int) -> Load:
        """Deliver bookings to one of them, each another."""
        return asyncio.run(_load(self.ports[name], self.key, deliveries))

    def settle(self) -> None:
        """Wait until nothing is going on any more in the background."""
        until("all events confirmed", lambda: metric(self.receiver, "events_unconfirmed") == 0, 600)


def _claims(servers: _Servers, rounds: int, deliveries: int) -> Iterator[Claim]:
    loads: dict[str, list[Load]] = {name: [] for name in (*OTHERS, "receiver")}
    for _ in range(rounds + 1):
        for name, its in loads.items():
            its.append(servers.load(name, PER_ROUND))
        servers.settle()
    loads = {name: its[1:] for name, its in loads.items()}  # the first round warms up
    for what, figure, unit, at_most, bounds in (
        ("deliveries/s", lambda load: load.per_second, " /s", False, (0.05, 0.12)),
        ("p99 of the answer", lambda load: load.p99 * 1000, " ms", True, (40, 20)),
    ):
        figures = {name: [figure(load) for load in its] for name, its in loads.items()}
        medians = {name: f"{statistics.median(its):.0f}{unit}" for name, its in figures.items()}
        for other, bound in zip(OTHERS, bounds, strict=True):
            ratio = statistics.median(mine / its for mine, its in zip(figures["receiver"], figures[other], strict=True))
            name, detail = f"{what} / {OTHERS[other]}", f"median of {rounds}"
            yield Claim(name, medians["receiver"], medians[other], ratio, "times", bound, at_most, detail)
    yield _memory(servers, deliveries)


def _memory(servers: _Servers, deliveries: int) -> Claim:
    """The most memory in use through many deliveries, beyond that after the first tenth of them."""
    receiver = psutil.Process(servers.processes.pid("receiver"))
    tenth = deliveries // 10
    in_use = []
    began = time.monotonic()
    for _ in range(10):
        servers.load("receiver", tenth)
        in_use.append(receiver.memory_info().rss / 1024**2)
    taken = time.monotonic() - began
    most, first = max(in_use[1:]), in_use[0]
    detail = f"{10 * tenth} in {taken:.0f} s; the floor is what it had after {tenth}"
    name = "receiver's memory growth"
    return Claim(name, f"{most:.0f} MB", f"{first:.0f} MB", most - first, "MB", 15, True, detail)


async def _load(port: int, key: str, deliveries: int) -> Load:
    name = secrets.token_hex(6)
    numbers = iter(range(deliveries))
    latencies: list[float] = []

    async def deliver() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in numbers:
            body = json.dumps(booking(f"{name}{number}")).encode()
            head = (
                "POST /webhooks/calendly HTTP/1.1",
                "host: 127.0.0.1",
                "content-type: application/json",
                f"content-length: {len(body)}",
                f"{HEADER}: {sign(body, key, datetime.now(UTC))}",
            )
            began = time.perf_counter()
            writer.write("\r\n".join((*head, "", "")).encode() + body)
            answer = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(answer.split(b"content-length: ")[1].split(b"\r\n")[0]))
            latencies.append(time.perf_counter() - began)
            assert answer.startswith(b"http/1.1 200"), answer
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(deliver() for _ in range(AT_ONCE)))
    return Load(time.perf_counter() - began, latencies)
