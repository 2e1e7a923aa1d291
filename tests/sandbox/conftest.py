"""One server for all tests of the sandbox; each test begins with the seeded world and all figures at zero."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

import httpx
import pytest

from prefect_calendly.sandbox import Sandbox

NOW = "2025-03-14T00:00:00Z"
T = TypeVar("T")


def until(look: Callable[[], T], seconds: float = 60) -> T:
    """Look until there is something to see."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)
    return found


class WatchedSandbox(Sandbox):
    """Knows whether a test has changed it, because a reset costs more than most tests do."""

    changed = False

    def control(self, method: str, path: str, body: Any = None, **query: Any) -> dict[str, Any]:
        answer = super().control(method, path, body, **query)
        if method != "GET" and not path.startswith(("/faults", "/stats")):
            self.changed = True
        return answer

    def begin_test(self) -> None:
        if self.changed:
            self.reset()
        else:
            self.clear_faults()
            self.reset_stats()
        self.changed = False


class Api:
    """Plain httpx against a sandbox, with the shorthands that tests use."""

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

    def __init__(self, sandbox: WatchedSandbox, http: httpx.Client) -> None:
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
        changed = self.sandbox.changed
        # Also reading a connection changes it: a pending one becomes active.
        self.sandbox.changed = changed or method != "GET" or path.startswith("/connections/")
        answer = self.http.request(method, (base or self.sandbox.gateway_url) + path, headers=headers, **more)
        if answer.is_client_error:  # refused
            self.sandbox.changed = changed
        return answer

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
    """A local HTTP server that receives deliveries, keeps them, and answers with the statuses it is given."""

    def __init__(self) -> None:
        self.received: list[tuple[dict[str, str], bytes]] = []
        """Headers (names in lower case) and raw body of each delivery."""
        self.statuses: list[int] = []
        """The next answers; 200 when there are none left."""
        self.open = threading.Event()
        """While cleared, requests are read but not answered."""
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
def server() -> Iterator[WatchedSandbox]:
    with WatchedSandbox(events=120, now=NOW, gateway_rps=0, rate_limit_per_minute=0) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(server: WatchedSandbox) -> WatchedSandbox:
    server.begin_test()
    return server


@pytest.fixture
def api(sandbox: WatchedSandbox, http: httpx.Client) -> Api:
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
