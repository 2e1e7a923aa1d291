"""One server for all tests of the sandbox; each test begins with the seeded world."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from prefect_calendly.sandbox import Sandbox

NOW = "2025-03-14T00:00:00Z"


class Api:
    """Plain httpx against a sandbox, with the few shorthands that tests want."""

    uri = "https://api.calendly.com"
    alice = f"{uri}/users/AAAAAAAAAAAAAAAA"
    zoe = f"{uri}/users/ZZZZZZZZZZZZZZZZ"
    organization = f"{uri}/organizations/BBBBBBBBBBBBBBBB"
    event_type = f"{uri}/event_types/CCCCCCCCCCCCCCCC"
    event = f"{uri}/scheduled_events/DDDDDDDDDDDDDDDD"
    group = f"{uri}/groups/HHHHHHHHHHHHHHHH"
    connection = "21fd90f9-5935-43cd-b6c8-bde9d915ca80"
    second_connection = "5f0d4c1e-8a53-4b6e-9f0e-2d6a7f3c9b11"
    pending_connection = "9c2b7d60-1e34-4f7a-8d15-6b0a4e5f2c33"

    def __init__(self, sandbox: Sandbox, http: httpx.Client) -> None:
        self.sandbox = sandbox
        self.http = http

    def request(
        self,
        method: str,
        path: str,
        *,
        base: str | None = None,
        key: str | None = None,
        connection: str | None = None,
        **more: Any,
    ) -> httpx.Response:
        headers = {"Authorization": f"Bearer {key or self.sandbox.api_key}", **more.pop("headers", {})}
        if connection is not None:
            headers["Maton-Connection"] = connection
        path = path.removeprefix(self.uri)
        return self.http.request(method, (base or self.sandbox.gateway_url) + path, headers=headers, **more)

    def get(self, path: str, *, connection: str | None = None, **query: Any) -> httpx.Response:
        return self.request("GET", path, params=query, connection=connection)

    def post(self, path: str, body: Any = None, *, connection: str | None = None) -> httpx.Response:
        return self.request("POST", path, json=body, connection=connection)

    def resource(self, path: str) -> Any:
        response = self.get(path)
        assert response.status_code == 200, response.text
        return response.json()["resource"]

    def everything(self, path: str, **query: Any) -> list[Any]:
        """All the items of a listing, by `next_page_token`."""
        items: list[Any] = []
        token: dict[str, str] = {}
        while True:
            response = self.get(path, **{"count": 100, **query, **token})
            assert response.status_code == 200, response.text
            items += response.json()["collection"]
            following = response.json()["pagination"]["next_page_token"]
            if following is None:
                return items
            token = {"page_token": following}


class FarEnd:
    """A local HTTP server that Calendly delivers to: keeps what came, answers as it is told."""

    def __init__(self) -> None:
        self.received: list[tuple[dict[str, str], bytes]] = []
        """What came: headers (names in lower case) and the raw body."""
        self.statuses: list[int] = []
        """The next answers; 200 when there are none left."""
        self.open = threading.Event()
        """While cleared, requests are taken but not answered."""
        self.open.set()
        self.most_at_once = self._at_once = 0
        self._lock = threading.Lock()
        far_end = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with far_end._lock:
                    far_end._at_once += 1
                    far_end.most_at_once = max(far_end.most_at_once, far_end._at_once)
                    far_end.received.append(({k.lower(): v for k, v in self.headers.items()}, body))
                    status = far_end.statuses.pop(0) if far_end.statuses else 200
                far_end.open.wait()
                with far_end._lock:
                    far_end._at_once -= 1
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", far_end.url)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/hooks"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def stop(self) -> None:
        """From now on connections are refused."""
        self.open.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


@pytest.fixture
def far_end() -> Iterator[FarEnd]:
    far_end = FarEnd()
    yield far_end
    far_end.stop()


@pytest.fixture(scope="session")
def http() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False) as client:
        yield client


@pytest.fixture(scope="session")
def server() -> Iterator[Sandbox]:
    with Sandbox(events=200, now=NOW, gateway_rps=0, rate_limit_per_minute=0) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(server: Sandbox) -> Sandbox:
    server.reset()
    return server


@pytest.fixture
def api(sandbox: Sandbox, http: httpx.Client) -> Api:
    return Api(sandbox, http)


def error_of(response: httpx.Response) -> tuple[int, str, str]:
    body = response.json()
    return response.status_code, body["title"], body["message"]


@pytest.fixture(scope="session")
def error() -> Any:
    """Reads a Calendly error: (status, title, message)."""
    return error_of


@pytest.fixture(scope="session")
def details() -> Any:
    """Reads the details of a 400: a list of (parameter, message)."""

    def read(response: httpx.Response) -> list[tuple[str, str]]:
        assert error_of(response)[:2] == (400, "Invalid Argument"), response.text
        return [(item["parameter"], item["message"]) for item in response.json()["details"]]

    return read
