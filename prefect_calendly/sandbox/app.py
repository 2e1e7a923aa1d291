"""The sandbox as an ASGI application: who asks, may they, what happens, and what goes wrong on purpose.

`/calendly/…` is Calendly behind the gateway, `/native/…` Calendly itself, `/connections` the gateway's own.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import struct
import time
from collections import Counter
from typing import Any
from urllib.parse import parse_qsl

import httpx
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import calendly, connections, errors, faults
from .control import control_app
from .deliveries import ATTEMPT_SECONDS, Deliveries
from .errors import Refusal
from .faults import Fault
from .limits import Limits
from .render import encoded
from .routing import Answer, Call, Route
from .seed import ALICE, build
from .world import Options

# Closing a socket that lingers for zero seconds sends RST instead of FIN.
_RESET = struct.pack("ii", 1, 0)


class Stats:
    """What was asked of the sandbox, the control surface not counted."""

    def __init__(self) -> None:
        self.requests = 0
        self.by_route: Counter[str] = Counter()
        self.by_status: Counter[str] = Counter()
        self.writes: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.unknown: dict[str, None] = {}  # an ordered set
        self.in_flight = self.max_in_flight = 0
        self.since: float | None = None
        self._first = self._last = 0.0

    def begin(self) -> None:
        """A request has come."""
        if self.since is None:
            self.since, self._first = time.time(), time.monotonic()
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)

    def end(self) -> None:
        """It was answered."""
        self._last = time.monotonic()
        self.in_flight -= 1

    def as_json(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "by_route": dict(self.by_route),
            "by_status": dict(self.by_status),
            "max_in_flight": self.max_in_flight,
            "since": self.since,
            "seconds": max(0.0, self._last - self._first),
            "unknown_parameters": list(self.unknown),
            "writes": dict(self.writes),
            "faults": dict(self.faults),
        }


class App:
    def __init__(self, options: Options) -> None:
        self.started_with = options
        self._sleepers: set[asyncio.Future[None]] = set()
        self._control: ASGIApp = control_app(self)
        self._client: httpx.AsyncClient | None = None
        self._start(options)

    def reset(self, options: Options) -> None:
        """The seeded world of these options, no faults, no deliveries, all counters at zero."""
        old = self.deliveries
        self._start(options)
        old.stop()

    def _start(self, options: Options) -> None:
        self.options = options
        self.world = build(options)
        self.deliveries = Deliveries(self.world, self._deliverer)
        self.limits = Limits(options)
        self.faults: list[Fault] = []
        self.stats = Stats()

    def _deliverer(self) -> httpx.AsyncClient:
        """The one client that deliveries go out with; made when the first does, for it takes a while."""
        if self._client is None:
            no_limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
            self._client = httpx.AsyncClient(
                headers={"user-agent": "calendly-sandbox"}, limits=no_limits, timeout=ATTEMPT_SECONDS, trust_env=False
            )
        return self._client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path == "/_sandbox" or path.startswith("/_sandbox/"):
            await self._control(scope, receive, send)
            return
        stats = self.stats  # a request that outlives a reset does not count in the new figures
        stats.begin()
        try:
            body = b""
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":  # in the middle of its request: it has asked for nothing
                    return
                body += message.get("body", b"")
                if not message.get("more_body"):
                    break
            answer, hits = self._answer(scope["method"], path, scope, body)
            await self._deliver(answer, hits, scope, receive, send)
        finally:
            stats.end()

    # What the answer is

    def _answer(self, method: str, path: str, scope: Scope, raw: bytes) -> tuple[Answer, list[Fault]]:
        mount, _, rest = path[1:].partition("/")
        router = connections.router if mount == "connections" else calendly.router
        found = None
        if mount in ("calendly", "native", "connections"):
            found = router.find(method, path[1:] if mount == "connections" else rest)
        route, params = found or (None, {})
        template = route.template if route is not None else "unknown"
        headers = dict(scope["headers"])
        query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        body = _parsed(raw)

        self.stats.requests += 1
        self.stats.by_route[f"{method} {template}"] += 1
        hits = faults.pick(self.faults, method, template, path, body) if self.faults else []
        for fault in hits:
            self.stats.faults[fault.kind] += 1
        limit_headers: dict[str, str] = {}
        try:
            before = next((fault for fault in hits if fault.kind in faults.BEFORE), None)
            if before is not None and before.kind in faults.ON_ARRIVAL:
                raise faults.refusal(before)
            answer = self._handle(mount, route, params, headers, query, body, limit_headers, before)
        except Refusal as refusal:
            answer = Answer(refusal.status, refusal.body, dict(refusal.headers))
        answer.headers = {**limit_headers, **answer.headers}
        for fault in hits:
            if fault.kind in faults.TWEAKS:
                faults.tweak(fault, answer)
            elif fault.kind == "error_after":
                error = errors.server_error()
                answer = Answer(error.status, error.body, answer.headers)
        return answer, hits

    def _handle(
        self,
        mount: str,
        route: Route | None,
        params: dict[str, str],
        headers: dict[bytes, bytes],
        query: dict[str, str],
        body: Any,
        limit_headers: dict[str, str],
        fault: Fault | None,
    ) -> Answer:
        world = self.world
        if mount not in ("calendly", "native", "connections"):
            raise errors.unknown_route()
        caller = world.users[ALICE]
        token = _bearer(headers)
        if mount == "native":
            if token != self.options.native_token:
                raise errors.unauthenticated()
        else:
            if token not in (self.options.api_key, self.options.second_key):
                raise errors.bad_key()
            self.limits.gateway(token)
        if mount == "calendly":
            wanted = headers.get(b"maton-connection")
            name = wanted.decode("latin-1") if wanted is not None else None
            caller = connections.choose(world, token, name).user or caller
        if mount != "connections":
            limit_headers |= self.limits.calendly(caller.uuid)
        if fault is not None:
            raise faults.refusal(fault)
        if route is None:
            raise errors.unknown_route() if mount == "connections" else errors.not_found()
        call = Call(world, caller, route, params, query, body, token)
        for name in route.unknown(call):
            self.stats.unknown[f"{route.name}: {name}"] = None
        if route.write == "booking":
            self.limits.booking(caller.uuid)
        answer = route.handler(call)
        if route.write is not None:
            self.stats.writes[route.write] += 1
            self.deliveries.wake()
        return answer

    # How it goes out

    async def _deliver(self, answer: Answer, hits: list[Fault], scope: Scope, receive: Receive, send: Send) -> None:
        seconds = self.options.latency_ms / 1000
        seconds += sum(float(fault.options["seconds"]) for fault in hits if fault.kind == "latency")
        if seconds > 0:
            await self.sleep(seconds)
        kind = next((fault.kind for fault in hits if fault.kind not in faults.TWEAKS), "")
        if kind in ("drop_before", "drop_after", "reset"):
            self.stats.by_status["dropped"] += 1
            await _hang_up(scope, receive, reset=kind == "reset")
            return
        self.stats.by_status[str(answer.status)] += 1
        content, headers = _encoded(answer)
        length = len(content)
        if kind == "malformed_json":
            content = content[: length // 2]
            length = len(content)
        elif kind == "wrong_content_type":
            headers["content-type"] = "text/html; charset=utf-8"
        if answer.status != 204:
            headers["content-length"] = str(length)
        start: Message = {
            "type": "http.response.start",
            "status": answer.status,
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
        }
        await send(start)
        if kind == "truncated_body":
            await send({"type": "http.response.body", "body": content[: length // 2], "more_body": True})
            await _hang_up(scope, receive, flush=True)
            return
        await send({"type": "http.response.body", "body": content})

    async def sleep(self, seconds: float) -> None:
        """Wait, but not beyond the end of the server."""
        loop = asyncio.get_running_loop()
        sleeper: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(seconds, _wake, sleeper)
        self._sleepers.add(sleeper)
        try:
            await sleeper
        finally:
            timer.cancel()
            self._sleepers.discard(sleeper)

    async def close(self) -> None:
        """The server ends: nobody sleeps any longer, and nothing is delivered."""
        for sleeper in self._sleepers:
            _wake(sleeper)
        self.deliveries.stop()
        await self.deliveries.stopped()
        if self._client is not None:
            await self._client.aclose()


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)


def _bearer(headers: dict[bytes, bytes]) -> str:
    scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _parsed(raw: bytes) -> Any:
    """The JSON of a body; the plain text of one that is none, which no endpoint accepts."""
    if not raw:
        return None
    try:
        return json.loads(raw)
    except ValueError:
        return raw.decode("utf-8", "replace")


def _encoded(answer: Answer) -> tuple[bytes, dict[str, str]]:
    headers = {"x-request-id": secrets.token_hex(16), **answer.headers}
    if answer.status == 204:
        return b"", headers
    if isinstance(answer.body, str):
        return answer.body.encode(), {"content-type": "text/plain", **headers}
    return encoded(answer.body), {"content-type": "application/json", **headers}


async def _hang_up(scope: Scope, receive: Receive, *, reset: bool = False, flush: bool = False) -> None:
    """End the connection under the client, and wait until it is gone so that uvicorn sends nothing more."""
    transport: asyncio.Transport = scope["state"]["transport"]
    if reset:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    if flush:
        transport.close()
    else:
        transport.abort()
    while (await receive())["type"] != "http.disconnect":
        pass
