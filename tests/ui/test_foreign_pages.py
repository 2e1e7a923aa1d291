"""A web page that is open beside the UI of `make up` gets nothing of its server, whatever its domain resolves to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from deployments.own_server import add_sign_in_page, server_settings, ui_link
from deployments.processes import free_port
from tests.prefect_server import server_process
from tests.support import prefect_api, until
from tests.ui.conftest import FOREIGN_HOST

pytestmark = pytest.mark.stack

PASSWORD: Final = "8f14e45fceea167a5a36dedd4bea2543"
SECRET: Final = "of-the-block"

# Runs in the foreign page: whatever it can send without asking anybody, and all that it gets to see.
_ATTACK = """async api => {
    const seen = answer => answer.text().then(text => `${answer.type} ${answer.status} ${text}`)
    const send = (path, options) => fetch(api + path, options).then(seen, () => "refused by the browser")
    const body = JSON.stringify({name: "by_a_page", value: 1})
    const blob = new Blob([body])  // without a type, which Prefect takes for JSON
    const json = {"Content-Type": "application/json"}
    const read = "/block_types/slug/secret/block_documents/name/kept?include_secrets=true"
    const filter = {method: "POST", headers: json, body: JSON.stringify({include_secrets: true})}
    const answers = [
        await send(read),
        await send(read, {mode: "no-cors"}),
        await send(read, {credentials: "include"}),
        await send("/block_documents/filter", filter),
        await send("/variables/", {method: "POST", headers: json, body}),
        await send("/variables/", {method: "POST", mode: "no-cors", body}),
        await send("/variables/", {method: "POST", mode: "no-cors", body: blob}),
        await send("/variables/", {method: "POST", body: blob}),
        await send("/variables/name/kept", {method: "DELETE", headers: json}),
    ]
    navigator.sendBeacon(api + "/variables/", blob)
    const form = Object.assign(document.createElement("form"), {method: "post", enctype: "text/plain", target: "there"})
    form.action = api + "/variables/"
    form.innerHTML = `<input name='{"name": "by_a_page", "value": "' value='"}'>`
    const frame = Object.assign(document.createElement("iframe"), {name: "there"})
    document.body.append(frame, form)
    const sent = new Promise(resolve => frame.addEventListener("load", resolve, {once: true}))
    form.submit()
    await sent
    return answers
}"""

# Runs in the foreign page: CORS says nothing about websockets. Returns what each of them was told.
_SOCKETS = """async ([api, paths, event]) => Promise.all(
    paths.flatMap(path => [[path, [], false], [path, ["prefect"], false], [path, ["prefect"], true]]).map(
        ([path, protocols, asks]) => new Promise(resolve => {
            const heard = []
            const socket = new WebSocket(api.replace("http", "ws") + path, protocols)
            setTimeout(() => resolve([...heard, `${path} stays open`]), 5000)
            socket.onmessage = message => heard.push(message.data)
            socket.onclose = () => resolve(heard)
            socket.onopen = () => {
                if (asks) socket.send(JSON.stringify({type: "auth", token: "admin:guessed"}))
                socket.send(JSON.stringify(path === "/events/in" ? event : {type: "filter", filter: {}}))
            }
        })
    )
)"""
SOCKETS: Final = (
    *("/events/in", "/events/out", "/logs/out", "/task_runs/subscriptions/scheduled"),
    "/work_pools/calendly/workers/connect",
)


@dataclass(frozen=True)
class Server:
    """A Prefect server with the settings of `make up`."""

    port: int
    http: httpx.Client

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def link(self, path: str, password: str = PASSWORD) -> str:
        return ui_link(self.port, password, path)

    def events(self, name: str) -> list[str]:
        """Ids of the stored events of a name."""
        found = self.http.post("/events/filter", json={"filter": {"event": {"name": [name]}}}).raise_for_status()
        return [event["id"] for event in found.json()["events"]]


def made(http: httpx.Client, path: str, **body: Any) -> str:
    """Make something on a server; its id."""
    return str(http.post(path, json=body).raise_for_status().json()["id"])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Such a server, with a block and a variable in it."""
    home, port = tmp_path_factory.mktemp("foreign"), free_port()
    settings = server_settings(port, PASSWORD)
    ui = {"PREFECT_SERVER_UI_ENABLED": "true", "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(home / "ui")}
    with (
        server_process(home, port, **settings, **ui),
        prefect_api(settings["PREFECT_API_URL"], settings["PREFECT_API_AUTH_STRING"]) as http,
    ):
        add_sign_in_page(home / "ui")
        kind = made(http, "/block_types/", name="Secret", slug="secret")
        fields = {"title": "Secret", "type": "object", "properties": {"value": {}}, "secret_fields": ["value"]}
        schema = made(http, "/block_schemas/", fields=fields, block_type_id=kind)
        data = {"value": SECRET}
        made(http, "/block_documents/", name="kept", data=data, block_type_id=kind, block_schema_id=schema)
        made(http, "/variables/", name="kept", value=1)
        yield Server(port, http)


@pytest.fixture(scope="module")
def foreign_origin() -> Iterator[str]:
    """The origin of a page that has nothing to do with the server."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>Elsewhere</title><body>Elsewhere</body>")

        def log_message(self, *args: Any) -> None:
            pass

    web = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    yield f"http://{FOREIGN_HOST}:{web.server_port}"
    web.shutdown()
    web.server_close()


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    """A page of somebody who has the UI of the server open in another tab."""
    context = browser.new_context()
    tab = context.new_page()
    tab.goto(server.link("/variables"))
    tab.wait_for_url(f"{server.origin}/v2/variables")
    yield context.new_page()
    context.close()


def event_of(name: str) -> dict[str, Any]:
    """An event as Prefect takes it."""
    resource = {"prefect.resource.id": "anything"}
    return {"id": str(uuid4()), "event": name, "occurred": datetime.now(UTC).isoformat(), "resource": resource}


def attack(page: Page, api: str) -> list[str]:
    """Let a page try everything on the server; what it got to see."""
    answers: list[str] = page.evaluate(_ATTACK, api)
    heard: list[list[str]] = page.evaluate(_SOCKETS, [api, SOCKETS, event_of("by.a.page")])
    return answers + [text for each in heard for text in each]


def nothing_has_changed(server: Server) -> bool:
    """Whether the server has what it had, once it has stored what was sent."""
    name = f"marker.{uuid4()}"
    server.http.post("/events", json=[event_of(name)]).raise_for_status()
    until(lambda: server.events(name), 60)
    variables = server.http.post("/variables/filter", json={}).raise_for_status().json()
    return [variable["name"] for variable in variables] == ["kept"] and not server.events("by.a.page")


# What the browser of a person allows other pages


def test_a_page_of_another_origin_reads_nothing_and_changes_nothing(
    page: Page, server: Server, foreign_origin: str
) -> None:
    page.goto(foreign_origin)
    seen = attack(page, f"{server.origin}/api")
    assert set(seen) <= {"refused by the browser", "opaque 0 "}
    assert nothing_has_changed(server)


def test_a_page_whose_domain_became_a_name_of_this_machine_gets_nothing_either(page: Page, server: Server) -> None:
    rebound = f"http://{FOREIGN_HOST}:{server.port}"
    page.goto(f"{rebound}/v2/sign-in.html")
    assert page.evaluate("localStorage.length") == 0
    seen = attack(page, f"{rebound}/api")
    assert {" ".join(answer.split()[:2]) for answer in seen} <= {"basic 401"}
    assert SECRET not in "".join(seen)
    assert nothing_has_changed(server)


def test_no_operation_of_the_api_is_there_for_somebody_without_the_password(server: Server) -> None:
    # As a page sends it that was loaded under another name.
    headers = {"Host": f"{FOREIGN_HOST}:{server.port}", "Origin": f"http://{FOREIGN_HOST}:{server.port}"}
    answered = set()
    with httpx.Client(base_url=server.origin, headers=headers, trust_env=False, timeout=60) as http:
        operations = http.get("/openapi.json").json()["paths"]
        assert len(operations) > 100
        for path, methods in operations.items():
            for method in methods:
                if http.request(method, f"/api{path.removeprefix('/api')}").status_code != 401:
                    answered.add(path.removeprefix("/api"))
    assert answered == {"/health", "/ready"}


# What the person sees


def test_a_link_of_make_up_opens_the_ui_without_asking_for_the_password(browser: Browser, server: Server) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(server.link("/variables"))
        page.wait_for_url(f"{server.origin}/v2/variables")
        expect(page.get_by_text("kept", exact=True)).to_be_visible()
        page.goto(f"{server.origin}/v2/blocks")  # and from then on any other address
        expect(page.get_by_text("kept", exact=True)).to_be_visible()


def test_a_link_of_another_time_says_so_and_the_right_one_works_in_the_same_tab(
    browser: Browser, server: Server
) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(server.link("/variables", password="old"))
        expect(page.locator("p")).to_have_text("This link is an old one: open the one that was printed last.")
        assert page.evaluate("localStorage.length") == 0
        page.goto(server.link("/variables"))
        page.wait_for_url(f"{server.origin}/v2/variables")


def test_a_link_leads_nowhere_but_into_the_ui(browser: Browser, server: Server) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        for path in ("//elsewhere.example", "/\\elsewhere.example", "@elsewhere.example", "/../api/health"):
            page.goto("about:blank")
            page.goto(server.link(path))
            page.wait_for_load_state("networkidle")
            assert page.url.startswith(f"{server.origin}/v2/"), path
