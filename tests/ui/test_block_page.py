"""Calendly Credentials, made by hand on the block page."""

from __future__ import annotations

import re
import secrets

import pytest
from playwright.sync_api import expect

from prefect_calendly import CalendlyCredentials
from prefect_calendly.check import check_credentials
from tests.ui.person import Person, field, labels, sideways

pytestmark = pytest.mark.stack


def test_credentials_that_a_person_fills_in_work_and_their_key_is_not_shown(person: Person) -> None:
    page = person.look("/blocks/catalog/calendly-credentials/create")
    expect(labels(page)).to_have_text([re.compile(f"^{re.escape(title)}") for title in ("Name", *_titles())])
    for title, help_text in _titles().items():
        expect(field(page, title)).to_contain_text(help_text)

    name = f"by-hand-{secrets.token_hex(4)}"
    page.get_by_label("Name").fill(name)
    expect(page.get_by_label("API key")).to_have_attribute("type", "password")
    page.get_by_label("API key").fill(person.stack.sandbox_key)
    page.get_by_label("Gateway URL").fill(f"{person.stack.sandbox_url}/calendly")
    page.get_by_label("Connections URL").fill(person.stack.sandbox_url)
    page.get_by_label("Timeout (seconds)").fill("12.5")
    person.picture(page, "block-form")
    page.get_by_role("button", name="Save").click()

    expect(page).to_have_url(re.compile("/blocks/block/"))
    expect(page.get_by_role("main")).to_contain_text("********")
    expect(page.get_by_role("main")).to_contain_text(f'CalendlyCredentials.load("{name}")')
    page.reload()
    expect(page.get_by_role("main")).to_contain_text("12.5")
    assert person.stack.sandbox_key not in page.content()
    person.picture(page, "block")

    block = person.in_prefect(lambda: CalendlyCredentials.load(name, _sync=True))  # type: ignore[call-arg]
    assert (block.connection_id, block.timeout_seconds, block.max_concurrency) == (None, 12.5, 16)
    found = person.in_prefect(lambda: check_credentials(block))
    assert (found.ok, found.user_name) == (True, "Alice Johnson")


def test_without_internet_the_block_still_says_what_it_is(person: Person) -> None:
    page = person.look("/blocks/catalog/calendly-credentials")
    logo = page.get_by_role("main").locator("img")
    expect(logo).to_be_visible()  # an empty tile, for there is no logo
    box = logo.bounding_box()
    assert box is not None
    assert box["width"] == box["height"]
    expect(page.get_by_role("main")).to_contain_text("Calendly Credentials")
    expect(page.get_by_role("main")).to_contain_text("Who to be towards Calendly")
    expect(page.get_by_role("main")).to_contain_text('CalendlyCredentials.load("')
    person.picture(page, "block-type")


def test_the_block_form_fits_a_phone(person: Person) -> None:
    page = person.look("/blocks/catalog/calendly-credentials/create", width=390)
    expect(page.get_by_label("Requests at once")).to_be_visible()
    assert sideways(page) == []
    person.picture(page, "block-form-phone")


def _titles() -> dict[str, str]:
    """Titles in the order of the form, and the help with each."""
    fields = CalendlyCredentials.model_fields
    titles = {str(given.title): str(given.description) for given in fields.values()}
    assert list(titles) == [
        "API key",
        "Connection ID",
        "Gateway URL",
        "Connections URL",
        "Timeout (seconds)",
        "Requests per second",
        "Requests at once",
    ]
    return titles
