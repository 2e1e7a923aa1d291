"""The person of these tests: what one test leaves under way does not disturb the next one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.ui.person import Person

pytestmark = pytest.mark.stack

PAGE = b"<!doctype html><main>Asking</main><script>fetch('/api', {method: 'POST'})</script>"


class SlowUi:
    """A page that asks its server for something by POST, and a server that does not answer."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self._over = threading.Event()
        ui = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(PAGE)))
                self.end_headers()
                self.wfile.write(PAGE)

            def do_POST(self) -> None:
                ui.asked.set()
                ui._over.wait(60)

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def slow_ui() -> Iterator[SlowUi]:
    ui = SlowUi()
    yield ui
    ui.stop()


def test_a_person_who_leaves_while_a_page_still_asks_does_not_disturb_the_next_one(
    browser: Browser, slow_ui: SlowUi
) -> None:
    stack: Any = SimpleNamespace(ui_url=slow_ui.url, sandbox_url=slow_ui.url, prefect=httpx.Client)
    person = Person(browser, stack, "leaves")
    page = person.look("/page")
    while not slow_ui.asked.is_set():
        page.wait_for_timeout(50)
    person.leave()
    other = Person(browser, stack, "comes")
    expect(other.look("/page").locator("main")).to_have_text("Asking")
    other.leave()
