"""A person with a browser, in front of what `make up` brings up."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, sync_playwright

from tests.support import Stack
from tests.ui.person import Person, signed_in

FOREIGN_HOST = "elsewhere.example"
"""A name that the browser takes for this machine, as one of an attacker is after DNS rebinding."""
_ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
    # No logos, no telemetry.
    f"--host-resolver-rules=MAP {FOREIGN_HOST} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
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
def browser() -> Iterator[Browser]:
    """One Chromium for all tests here."""
    path = _chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(_ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def profile(browser: Browser, request: pytest.FixtureRequest) -> Iterator[BrowserContext]:
    """The browser of somebody who has opened a link of `make up`: it keeps the password, and the UI's programs."""
    stack: Stack = request.getfixturevalue("stack")  # no argument: it would be started before we know of Chromium
    profile = browser.new_context(locale="en-GB", storage_state=signed_in(stack.ui_url, stack.auth_string))
    profile.set_default_timeout(60_000)
    yield profile
    profile.close()


@pytest.fixture
def person(profile: BrowserContext, stack: Stack, request: pytest.FixtureRequest) -> Iterator[Person]:
    """Somebody who looks at the Prefect UI; what is on the screen at the end is kept in `.screenshots`."""
    person = Person(profile, stack, request.node.name)
    yield person
    person.leave()
