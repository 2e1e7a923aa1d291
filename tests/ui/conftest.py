"""A person with a browser, in front of what `make up` brings up."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, sync_playwright

from tests.support import Stack
from tests.ui.person import Person

_ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # no logos, no telemetry
)


def _chromium() -> str:
    named = os.environ.get("CHROMIUM")
    if path := shutil.which(named or "chromium"):
        return path
    problem = f"CHROMIUM names {named}, which is no program" if named else "the browser tests need Chromium"
    if named or os.environ.get("CI"):
        pytest.fail(f"{problem}: apt-get install chromium", pytrace=False)
    pytest.skip(f"{problem}: apt-get install chromium")


# For this package only: a sync Playwright leaves an event loop that looks as if it ran, which async tests do not stand.
@pytest.fixture(scope="package")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    """One Chromium for all tests here, which keeps the UI's programs as a person's browser does."""
    path = _chromium()
    with sync_playwright() as playwright:
        profile = tmp_path_factory.mktemp("chromium")
        browser = playwright.chromium.launch_persistent_context(
            profile, executable_path=path, args=list(_ARGUMENTS), locale="en-GB"
        )
        browser.set_default_timeout(60_000)
        yield browser
        browser.close()


@pytest.fixture
def person(browser: BrowserContext, request: pytest.FixtureRequest) -> Iterator[Person]:
    """Somebody who looks at the Prefect UI; what is on the screen at the end is kept in `.screenshots`."""
    stack: Stack = request.getfixturevalue(
        "stack"
    )  # not as an argument: it would be started before we know of Chromium
    person = Person(browser, stack, request.node.name)
    yield person
    person.leave()
