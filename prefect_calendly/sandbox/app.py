"""The sandbox as an ASGI application: authentication, connections, limits, faults, and the endpoints behind them.

`/calendly/…` is Calendly behind the gateway, `/native/…` is Calendly itself, `/connections` belongs to the gateway.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import struct
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prefect_calendly.sandbox import endpoints, errors, faults
from prefect_calendly.sandbox.control import control_app
from prefect_calendly.sandbox.endpoints.connections import connection_for
from prefect_calendly.sandbox.errors import Refusal
from prefect_calendly.sandbox.faults import Fault
from prefect_calendly.sandbox.model import User
from prefect_calendly.sandbox.options import Options
from prefect_calendly.sandbox.render import encoded
from prefect_calendly.sandbox.routing import Answer, Call, Route
from prefect_calendly.sandbox.seed import ALICE
from prefect_calendly.sandbox.state import State

# Closing a socket that lingers for zero seconds sends RST instead of FIN.
_RESET = struct.pack("ii", 1, 0)


@dataclass(slots=True)
class _Request:
    method: str
    path: str
    mount: str
    route: Route | None
    params: dict[str, str]
    headers: dict[bytes, bytes]
    query: dict[str, str]
    body: Any

    @property
    def template(self) -> str:
        return self.route.template if self.route is not None else "unknown"


class App:
    """Serves the sandbox of these options."""

    def __init__(self, options: Options) -> None:
        self._state = State(options)
        self._control: ASGIApp = control_app(self._state)
        self._sleepers: set[asyncio.Future[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path == "/_sandbox" or path.startswith("/_sandbox/"):
            await self._control(scope, receive, send)
            return
        stats = self._state.stats  # kept, so that a request that outlives a reset does not end in the new figures
        stats.begin()
        try:
            body = b""
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":  # before the end of the request: it has no effect
                    return
                body += message.get("body", b"")
                if not message.get("more_body"):
                    break
            answer, hits = self._answer(_request(scope, body))
            await self._send_answer(answer, hits, scope, receive, send)
        finally:
            stats.end()

    # Making the answer

    def _answer(self, request: _Request) -> tuple[Answer, list[Fault]]:
        """The answer, and the faults that hit the request."""
        stats = self._state.stats
        stats.requests += 1
        stats.by_route[f"{request.method} {request.template}"] += 1
        hits = faults.pick(self._state.faults, request.method, request.template, request.path, request.body)
        for fault in hits:
            stats.faults[fault.kind] += 1
        limit_headers: dict[str, str] = {}
        try:
            before = next((fault for fault in hits if fault.kind in faults.BEFORE), None)
            if before is not None and before.kind in faults.ON_ARRIVAL:
                raise faults.refusal(before)
            answer = self._handle(request, before, limit_headers)
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

    def _handle(self, request: _Request, fault: Fault | None, limit_headers: dict[str, str]) -> Answer:
        """Check the request as the gateway and Calendly do, in their order, and call its endpoint.

        `limit_headers` receives the headers that the answer has whether or not it is a refusal.
        """
        state, mount, route = self._state, request.mount, request.route
        if mount not in ("calendly", "native", "connections"):
            raise errors.unknown_route()
        token = self._authenticate(request)
        caller = self._caller(request, token)
        if mount != "connections":
            limit_headers |= state.limits.calendly(caller.uuid)
        if fault is not None:
            raise faults.refusal(fault)
        if route is None:
            raise errors.unknown_route() if mount == "connections" else errors.not_found()
        call = Call(state.world, caller, route, request.params, request.query, request.body, token)
        for name in route.unknown(call):
            state.stats.unknown_parameters[f"{route.name}: {name}"] = None
        if route.write == "booking":
            state.limits.booking(caller.uuid)
        answer = route.handler(call)
        if route.write is not None:
            state.stats.writes[route.write] += 1
            state.deliveries.wake()
        return answer

    def _authenticate(self, request: _Request) -> str:
        """The request's token: a personal one for `/native`, else an API key, which has a limit of its own."""
        options, token = self._state.options, _bearer(request.headers)
        if request.mount == "native":
            if token != options.native_token:
                raise errors.unauthenticated()
        else:
            if token not in (options.api_key, options.second_key):
                raise errors.bad_key()
            self._state.limits.gateway(token)
        return token

    def _caller(self, request: _Request, token: str) -> User:
        """The Calendly user as whom the request is made: Alice, or the user of the gateway's connection."""
        world = self._state.world
        alice = world.users[ALICE]
        if request.mount != "calendly":
            return alice
        wanted = request.headers.get(b"maton-connection")
        name = wanted.decode("latin-1") if wanted is not None else None
        return connection_for(world, token, name).user or alice

    # Sending it

    async def _send_answer(self, answer: Answer, hits: list[Fault], scope: Scope, receive: Receive, send: Send) -> None:
        stats = self._state.stats
        seconds = self._state.options.latency_ms / 1000
        seconds += sum(float(fault.options["seconds"]) for fault in hits if fault.kind == "latency")
        if seconds > 0:
            await self._sleep(seconds)
        kind = next((fault.kind for fault in hits if fault.kind not in faults.TWEAKS), "")
        if kind in ("drop_before", "drop_after", "reset"):
            stats.by_status["dropped"] += 1
            await _hang_up(scope, receive, reset=kind == "reset")
            return
        stats.by_status[str(answer.status)] += 1
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

    async def _sleep(self, seconds: float) -> None:
        """Wait, at most until the server stops."""
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
        """End all latency and all deliveries, because the server stops."""
        for sleeper in self._sleepers:
            _wake(sleeper)
        await self._state.close()


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)


def _request(scope: Scope, body: bytes) -> _Request:
    method, path = scope["method"], scope["path"]
    mount, _, rest = path[1:].partition("/")
    found = None
    if mount in ("calendly", "native"):
        found = endpoints.calendly.find(method, rest)
    elif mount == "connections":
        found = endpoints.gateway.find(method, path[1:])
    route, params = found or (None, {})
    query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
    return _Request(method, path, mount, route, params, dict(scope["headers"]), query, _decoded(body))


def _bearer(headers: dict[bytes, bytes]) -> str:
    scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _decoded(raw: bytes) -> Any:
    """Decode a body; what is not JSON stays text, which no endpoint accepts."""
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
    """Close the connection, and wait until it is closed so that uvicorn sends nothing more."""
    transport: asyncio.Transport = scope["state"]["transport"]
    if reset:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    if flush:
        transport.close()
    else:
        transport.abort()
    while (await receive())["type"] != "http.disconnect":
        pass
