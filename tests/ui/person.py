"""A person in front of the Prefect UI; and Prefect's API and the sandbox, to prepare and to check."""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import httpx
from playwright.sync_api import BrowserContext, Locator, Page, Request, Response, StorageState, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeout
from prefect.settings import temporary_settings

from prefect_calendly import CalendlyCredentials
from tests.support import Stack

SCREENSHOTS = Path(__file__).parents[2] / ".screenshots"
PHONE = 390
DESK = 1280
Ui = Literal["new", "classic"]
UIS: Final[tuple[Ui, ...]] = ("new", "classic")

T = TypeVar("T")

# The machine may be busy with flow runs and other tests: patience costs nothing where all is well.
expect.set_options(timeout=60_000)
_ATTEMPTS = 15

# Runs in Chromium: the largest contrast, as WCAG 2 defines it, between a picture's background and the text on it.
_CONTRAST = """async ([png, width]) => {
    const image = new Image()
    image.src = "data:image/png;base64," + png
    await image.decode()
    const canvas = Object.assign(document.createElement("canvas"), {width: image.width, height: image.height})
    const context = canvas.getContext("2d")
    context.drawImage(image, 0, 0)
    const {data} = context.getImageData(0, 0, Math.round(image.width * width), image.height)
    const linear = part => (part /= 255) <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4
    const light = at => 0.2126 * linear(data[at]) + 0.7152 * linear(data[at + 1]) + 0.0722 * linear(data[at + 2])
    const ground = light(0)
    let best = 1
    for (let at = 0; at < data.length; at += 4) {
        const other = light(at)
        best = Math.max(best, (Math.max(ground, other) + 0.05) / (Math.min(ground, other) + 0.05))
    }
    return {ground, contrast: best}
}"""

# Runs in Chromium: what makes the main part of a page scroll sideways (the page itself never scrolls). Empty as long as
# nothing is shown.
_SIDEWAYS = """() => {
    const main = document.querySelector("main")
    const shown = [...main?.querySelectorAll(".prose > *, td, label") ?? []].some(part => part.offsetWidth)
    if (!shown) return []
    if (main.scrollWidth <= main.clientWidth) return ["there"]
    const wide = [...main.querySelectorAll("*")].filter(part => part.getBoundingClientRect().right > innerWidth)
    const names = wide.map(part => `${part.tagName} ${part.textContent.slice(0, 60)}`)
    return ["there", `${main.scrollWidth} px`, ...names]
}"""


class Person:
    """Somebody with a browser."""

    def __init__(self, profile: BrowserContext, stack: Stack, name: str) -> None:
        self.stack = stack
        self._profile = profile
        self._name = re.sub(r"\W+", "-", name).strip("-")
        self._pages: list[Page] = []
        self.kept_from: list[str] = []
        """What pages wanted from other hosts."""
        self._api = stack.prefect()
        self._sandbox = httpx.Client(base_url=f"{stack.sandbox_url}/_sandbox", trust_env=False, timeout=30)

    # In the browser

    def look(self, path: str, *, width: int = DESK, dark: bool = False, ui: Ui = "new") -> Page:
        """Open a page of one of Prefect's two UIs, such as `/blocks`, in a window of its own."""
        page = self._profile.new_page()
        self._pages.append(page)
        page.on("request", self._note)
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme="dark" if dark else "light")
        page.goto(f"{self.stack.ui_url}{'/v2' if ui == 'new' else ''}{path}")
        return page

    def _note(self, request: Request) -> None:
        if request.url.startswith("http") and not request.url.startswith(self.stack.ui_url):
            self.kept_from.append(request.url)

    def run_form(self, deployment: str, *, width: int = DESK) -> Page:
        """Open the form for a custom run of a deployment."""
        page = self.look(f"/deployments/deployment/{self.deployment(deployment)}/run", width=width)
        expect(labels(page).filter(has_text="credentials")).to_be_visible()
        page.wait_for_load_state("networkidle")
        return page

    def run_page(self, run: str, *, width: int = DESK, ui: Ui = "new") -> Page:
        """Open the page of a flow run."""
        page = self.look(f"/runs/flow-run/{run}", width=width, ui=ui)
        page.wait_for_load_state("networkidle")
        return page

    def artifact_page(self, run: str, key: str, *, width: int = DESK, dark: bool = False, ui: Ui = "new") -> Page:
        """Open an artifact that a run has made, the newest of that key."""
        page = self.look(f"/artifacts/artifact/{self.artifact(run, key)['id']}", width=width, dark=dark, ui=ui)
        # The page is rendered again when it has loaded its run; what was typed before is lost.
        page.wait_for_load_state("networkidle")
        shown = "main .prose > *, main td, main :text('Progress: ')" if ui == "new" else ".markdown-renderer > *"
        expect(page.locator(shown).first).to_be_visible()
        return page

    def resume_form(self, run: str, *, width: int = DESK, ui: Ui = "new") -> Page:
        """Open the form of a run that waits, as its message says: the run's page, menu ⋮, Resume."""
        page = self.run_page(run, width=width, ui=ui)
        if ui == "new":
            page.get_by_role("main").get_by_role("button", name="Open menu").or_(
                page.locator("main button[aria-haspopup=menu]")
            ).first.click()
            page.get_by_role("menuitem", name="Resume").click()
        else:
            page.get_by_role("button", name="Resume").click()
        expect(page.get_by_role("dialog")).to_be_visible()
        return page

    def picture(self, page: Page, name: str) -> None:
        """Save a screenshot of all of a page."""
        SCREENSHOTS.mkdir(exist_ok=True)
        size = page.viewport_size
        assert size is not None
        page.wait_for_load_state("load")
        # The page itself never scrolls, its main part does.
        height = page.locator("main").evaluate("main => main.scrollHeight") if page.locator("main").count() else 0
        page.set_viewport_size({"width": size["width"], "height": max(size["height"], min(int(height), 5_000))})
        page.screenshot(path=SCREENSHOTS / f"{name}.png", animations="disabled")
        page.set_viewport_size(size)

    def leave(self) -> None:
        """Close all windows; save a screenshot of each."""
        for number, page in enumerate(self._pages):
            SCREENSHOTS.mkdir(exist_ok=True)
            page.screenshot(path=SCREENSHOTS / f"{self._name}-{number}.png", animations="disabled")
            page.close()
        self._api.close()
        self._sandbox.close()

    # Outside of the browser

    def api(self, path: str, body: Any = None) -> Any:
        """Ask Prefect's API: GET, or POST where there is a body."""
        answer = self._api.get(path) if body is None else self._api.post(path, json=body)
        return answer.raise_for_status().json()

    def deployment(self, name: str) -> str:
        (found,) = self.api("/deployments/filter", {"deployments": {"name": {"any_": [name]}}})
        return str(found["id"])

    def number_of_runs(self) -> int:
        return int(self.api("/flow_runs/count", {}))

    def start(self, deployment: str, **parameters: Any) -> str:
        """Start a run of a deployment, as a schedule does; its id."""
        started = self.api(f"/deployments/{self.deployment(deployment)}/create_flow_run", {"parameters": parameters})
        return str(started["id"])

    def save_credentials(self, name: str, **more: Any) -> dict[str, Any]:
        """Save credentials of the sandbox under a name; return a reference for the parameters of a run."""
        block = CalendlyCredentials(
            api_key=self.stack.sandbox_key,
            gateway_url=f"{self.stack.sandbox_url}/calendly",
            connections_url=self.stack.sandbox_url,
            **more,
        )
        self.in_prefect(lambda: block.save(name, overwrite=True))
        return {"$ref": {"block_document_slug": f"calendly-credentials/{name}"}}

    def in_prefect(self, work: Callable[[], T]) -> T:
        """Use Prefect's client in another thread: in this one, Playwright's event loop seems to be running."""

        def there() -> T:
            with temporary_settings(self.stack.settings):
                return work()

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(there).result()

    def artifacts(self, run: str, key: str) -> list[dict[str, Any]]:
        """The artifacts of a run with a key, or a part of one; the newest first."""
        wanted = {"flow_run_id": {"any_": [run]}, "key": {"like_": key}}
        return list(self.api("/artifacts/filter", {"artifacts": wanted, "sort": "CREATED_DESC"}))

    def artifact(self, run: str, key: str) -> dict[str, Any]:
        """The newest artifact of a run with exactly this key."""
        found = [artifact for artifact in self.artifacts(run, key) if artifact["key"] == key]
        assert found, f"run {run} has made no artifact {key}"
        return found[0]

    def state(self, run: str) -> str:
        """Name of the state that a run is in."""
        return str(self.api(f"/flow_runs/{run}")["state"]["name"])

    def book(self, domain: str, days_ahead: int, **more: Any) -> str:
        """Let somebody of a domain book Alice in the sandbox; uuid of the event."""
        start = datetime.now(UTC).replace(hour=15, minute=0, second=0, microsecond=0) + timedelta(days=days_ahead)
        body = {"start_time": start.isoformat(), "invitees": [{"email": f"jane@{domain}", "name": "Jane"}], **more}
        answer = self._sandbox.post("/events", json=body).raise_for_status().json()
        return str(answer["uri"]).rpartition("/")[2]

    def event(self, uuid: str) -> dict[str, Any]:
        """An event of the sandbox, as Calendly tells it."""
        answer = httpx.get(
            f"{self.stack.sandbox_url}/calendly/scheduled_events/{uuid}",
            headers={"Authorization": f"Bearer {self.stack.sandbox_key}"},
            trust_env=False,
        )
        return dict(answer.raise_for_status().json()["resource"])


def signed_in(ui_url: str, auth_string: str) -> StorageState:
    """What the browser stores for the UI once somebody has opened a link that brings the password along."""
    password = {"name": "prefect-password", "value": base64.b64encode(auth_string.encode()).decode()}
    return {"cookies": [], "origins": [{"origin": ui_url, "localStorage": [password]}]}


def labels(page: Page | Locator) -> Locator:
    return page.locator("label[data-slot=label]")


def field(page: Page | Locator, title: str) -> Locator:
    """The field of a form with a title, with its label, its help and its error."""
    label = labels(page).filter(has_text=re.compile(rf"^{re.escape(title)}( \(Optional\))?$"))
    return label.locator("xpath=ancestor::div[fieldset][1]")


def add_item(at: Locator, text: str) -> None:
    """Add a text to a list of a form."""
    before = at.locator("textarea").count()
    for _ in range(_ATTEMPTS):  # a click is lost while the form is still filling in defaults
        at.get_by_role("button", name="Add item").click()
        with contextlib.suppress(AssertionError):
            expect(at.locator("textarea")).to_have_count(before + 1, timeout=2_000)
            break
    at.locator("textarea").last.fill(text)


def open_tab(page: Page, name: str) -> None:
    """Open a tab of a page, also of one that is still rendering and loses clicks."""
    tab = page.get_by_role("tab", name=name)
    for _ in range(_ATTEMPTS):
        tab.click()
        with contextlib.suppress(AssertionError):
            expect(tab).to_have_attribute("aria-selected", "true", timeout=2_000)
            return
    raise AssertionError(f"the tab {name} does not open")


def choose(page: Page, at: Locator, option: str | re.Pattern[str], *, another: bool = False) -> None:
    """Choose an option of a select, and close it; `another` if several can be chosen.

    A list that is closing takes the focus, and so closes one that was just opened.
    """
    name: dict[str, Any] = {"name": option, "exact": isinstance(option, str)}
    wanted = page.get_by_role("option", **name)
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(PlaywrightTimeout):
            if not wanted.is_visible():
                at.click(timeout=5_000)
            wanted.click(timeout=5_000)
            break
    else:
        raise AssertionError(f"{option} cannot be chosen")
    if another:
        page.keyboard.press("Escape")
    expect(page.get_by_role("option")).to_have_count(0)


def created_run(page: Page, press: Callable[[], None]) -> str:
    """Do what creates a flow run; return its id."""
    with page.expect_response(lambda response: response.url.endswith("/create_flow_run")) as waiting:
        press()
    answer: Response = waiting.value
    assert answer.ok, answer.text()
    return str(answer.json()["id"])


def search(page: Page, text: str) -> Locator:
    """Search in a table artifact; return the rows that match."""
    rows = page.locator("tbody tr")
    for _ in range(_ATTEMPTS):  # what is typed before the page has loaded its run is lost
        page.get_by_placeholder("Search").fill(text)
        with contextlib.suppress(AssertionError):
            expect(rows).to_have_count(1, timeout=2_000)
            break
    return rows


def sideways(page: Page) -> list[str]:
    """What is wider than its page, which then scrolls sideways; should be empty."""
    page.wait_for_load_state("networkidle")
    found: list[str] = []
    for _ in range(20):  # a page may render once or twice more
        before, found = found, page.evaluate(_SIDEWAYS)
        if found and found == before:
            return found[1:]
        page.wait_for_timeout(500)
    raise AssertionError("the page does not come to rest")


def readable(page: Page, picture: Locator, part: float) -> dict[str, float]:
    """How light the background of a picture is, 0 to 1, and the contrast of the text in its leftmost part."""
    png = base64.b64encode(picture.screenshot(animations="disabled")).decode()
    found: dict[str, float] = page.evaluate(_CONTRAST, [png, part])
    return found
