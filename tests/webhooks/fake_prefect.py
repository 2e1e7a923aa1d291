"""The part of a Prefect server that a receiver needs, over HTTP; it misbehaves on demand."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import UUID

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tests.webhooks.served import Served

SUMMARY = "calendly.receiver.summary"


class FakePrefect:
    """A Prefect server that stores at once what it accepts."""

    NO_BLOCK = "s3cret"
    """Among `secrets`: it answers something that cannot be read."""

    def __init__(self) -> None:
        self.stored: dict[UUID, dict[str, Any]] = {}
        self.accepted: Counter[UUID] = Counter()
        """How often it accepted each event, other than summaries."""
        self.posts = 0
        self.forgets = False
        """It accepts events, and does not store them."""
        self.secrets: dict[str, Any] = {}
        self.drops: Callable[[dict[str, Any]], bool] = lambda event: False
        """It accepts such an event, and stores none that was posted with it."""
        self.refuses: Callable[[dict[str, Any]], bool] = lambda event: False
        self.status = 0
        """Answer everything with this."""
        self.page = ""
        """Answer everything with this page: there is something else at its address."""
        self.answers = threading.Event()
        """While it is not set, posts get no answer."""
        self.answers.set()
        self.asked = threading.Event()
        """Somebody has posted."""
        self._served: Served | None = None
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
        app = Starlette(routes=routes)

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            await (HTMLResponse(self.page) if self.page else app)(scope, receive, send)

        self._served = Served(answer, port=self._port)
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
        dropped = any(self.drops(event) for event in events)
        for event in events:
            if event["event"] != SUMMARY:
                self.accepted[UUID(event["id"])] += 1
            if not self.forgets and not dropped:
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
