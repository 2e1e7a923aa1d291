"""What the soak test looks at: a sandbox and a Prefect server, and everything between them and the flows."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any, Final

from prefect_calendly.runs.state import TYPE_SLUG
from tests.endurance.running import ask

BLOCK: Final = "soak-signing-key"
LONGEST_SECONDS: Final = 300
HELD_SECONDS: Final = 2 * LONGEST_SECONDS
METHODS: Final = (b"GET ", b"POST ", b"PUT ", b"PATCH ", b"DELETE ")


class Listener:
    """The receiver of a webhook: it keeps all deliveries."""

    def __init__(self) -> None:
        self.deliveries: list[tuple[dict[str, Any], str, bytes]] = []
        """Of each one the parsed body, the signature and the raw body."""
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                listener.deliveries.append((json.loads(body), self.headers["Calendly-Webhook-Signature"], body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/webhooks/calendly"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def delivered(self, invitee: str) -> list[tuple[str, bytes]]:
        """Return signature and raw body of the deliveries about an invitee."""
        return [(sign, raw) for body, sign, raw in self.deliveries if body["payload"]["uri"] == invitee]


class PrefectProxy:
    """A proxy between the flows and Prefect: it counts requests, and can hold back a response."""

    def __init__(self, prefect_port: int) -> None:
        self.requests = 0
        self.held = False
        """Whether a response is held back: what the request asked for has happened."""
        self._hold: int | None = None
        self._prefect_port = prefect_port
        self.port = 0
        ready = Event()
        Thread(target=lambda: asyncio.run(self._serve(ready)), daemon=True).start()
        ready.wait()

    def count(self, hold: int | None = None) -> None:
        """Reset the counter, and hold back the response to the request of that number."""
        self.requests, self.held, self._hold = 0, False, hold

    async def _serve(self, ready: Event) -> None:
        server = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await server.serve_forever()

    async def _forward(self, request: asyncio.StreamReader, response: asyncio.StreamWriter) -> None:
        from_prefect, to_prefect = await asyncio.open_connection("127.0.0.1", self._prefect_port)
        held = False

        async def respond() -> None:
            while data := await from_prefect.read(65_536):
                if held:
                    self.held = True
                    await asyncio.sleep(HELD_SECONDS)
                response.write(data)
            response.close()

        responding = asyncio.create_task(respond())
        with contextlib.suppress(ConnectionError):
            while data := await request.read(65_536):
                if data.startswith(METHODS):  # other data is a body, or frames of a WebSocket
                    self.requests += 1
                    held = self.requests == self._hold
                to_prefect.write(data)
        responding.cancel()
        for connection in (to_prefect, response):
            connection.close()


@dataclass
class World:
    """A sandbox and a Prefect server, as their own APIs show them, which know nothing of the flows."""

    sandbox_url: str
    prefect_url: str
    proxy: PrefectProxy
    listener: Listener
    people: dict[str, str] = field(default_factory=dict)
    """Names by the URI of the invitee; the names are the same in each world."""
    began: str = ""
    """When this world was set up, as Prefect writes times."""

    def sandbox(self, path: str, body: Any = None, method: str | None = None) -> Any:
        return ask(f"{self.sandbox_url}/_sandbox{path}", body, method=method)

    def prefect(self, path: str, body: Any = None, method: str | None = None) -> Any:
        """Send a request to Prefect, and repeat it while Prefect answers 503, as it does while SQLite is locked."""
        deadline = time.monotonic() + LONGEST_SECONDS
        while True:
            try:
                return ask(f"{self.prefect_url}/api{path}", body, method=method)
            except OSError as error:
                if getattr(error, "code", None) != 503 or time.monotonic() > deadline:
                    raise
            time.sleep(0.5)

    def reset(self, **options: Any) -> None:
        """Start over. Only events stay in Prefect; they are about other invitees than those that are booked now."""
        self.sandbox("/reset", options)
        for block in [*self._states(), *filter(None, [self.block()])]:
            self.prefect(f"/block_documents/{block['id']}", method="DELETE")
        self.people.clear()
        self.listener.deliveries.clear()
        self.began = datetime.now(UTC).isoformat()

    def book(self, name: str, domain: str = "shop.example", **members: Any) -> str:
        """Book a meeting; return the URI of the invitee."""
        made = self.sandbox("/events", {"invitees": [{"email": f"{name}@{domain}"}], **members})
        self.people[made["invitees"][0]] = name
        return str(made["invitees"][0])

    def state(self) -> dict[str, Any]:
        return dict(self.sandbox("/state?full=1"))

    def hooks(self) -> list[dict[str, Any]]:
        """Return the webhook subscriptions that deliver to the listener."""
        listed = self.state()["webhook_subscription_list"]
        return [hook for hook in listed if hook["callback_url"] == self.listener.url]

    def block(self) -> dict[str, Any] | None:
        """Return the block of the signing key; None if there is none."""
        wanted = {"block_documents": {"name": {"any_": [BLOCK]}}, "include_secrets": True}
        return next(iter(self.prefect("/block_documents/filter", wanted)), None)

    def states(self) -> list[dict[str, Any]]:
        """Return what the flows have left for their next runs."""
        return [block["data"]["value"] for block in self._states()]

    def _states(self) -> list[dict[str, Any]]:
        return list(self.prefect("/block_documents/filter", {"block_types": {"slug": {"any_": [TYPE_SLUG]}}}))

    def events(self) -> list[str]:
        """Return the events in Prefect about the invitees of this world, as `event: invitee, by source`."""
        wanted = {
            "resource": {"labels": {"calendly.uri": list(self.people)}},
            "occurred": {"since": "2000-01-01T00:00:00Z", "until": "2100-01-01T00:00:00Z"},
        }
        found = self.prefect("/events/filter", {"filter": wanted, "limit": 50})
        assert not found["next_page"]
        told = [(each["event"], each["resource"]) for each in found["events"]]
        return sorted(
            f"{name}: {self.people[resource['calendly.uri']]}, by {resource['calendly.source']}"
            for name, resource in told
        )

    def artifacts(self, key: str) -> list[Any]:
        """Return the data of all versions of an artifact that were written in this world."""
        found = self.prefect(
            "/artifacts/filter", {"artifacts": {"key": {"any_": [key]}}, "sort": "CREATED_DESC", "limit": 20}
        )
        return [each["data"] for each in found if datetime.fromisoformat(each["created"]).isoformat() >= self.began]
