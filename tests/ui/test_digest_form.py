"""The digest: requested in its form, and read in light and dark mode, on a desktop and on a phone."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import expect

from prefect_calendly.digest.artifacts import KEY_PREFIX
from tests.support import until
from tests.ui.person import PHONE, Person, created_run, readable, sideways

pytestmark = pytest.mark.stack

ZONE = "Asia/Kolkata"


def test_a_digest_for_a_zone_and_a_day_is_a_heat_map_and_a_table(person: Person) -> None:
    page = person.run_form("availability-digest")
    # The zone is chosen, from a list that can be searched: a wrong one cannot be entered.
    page.get_by_label("Timezone").click()
    page.get_by_placeholder(re.compile("Search|Filter", re.IGNORECASE)).fill("kolk")
    page.get_by_role("option", name=ZONE, exact=True).click()
    page.get_by_label("Days", exact=False).first.fill("5")
    day = datetime.now(UTC).date() + timedelta(days=2)
    page.get_by_label("First Day").click()
    page.get_by_placeholder("yyyy-MM-dd").fill(day.isoformat())
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    person.picture(page, "digest-form")
    run = created_run(page, page.get_by_role("button", name="Submit").click)
    until(lambda: person.state(run) == "Completed")

    keys = {found["key"] for found in person.artifacts(run, KEY_PREFIX)}
    (key,) = {key for key in keys if not key.endswith(("-table", "-progress"))}
    main = person.artifact_page(run, key).get_by_role("main")
    expect(main.get_by_role("heading", level=1)).to_have_text("Availability digest")
    expect(main).to_contain_text(f"5 days from {day:%a} {day.day} {day:%b} {day.year} ({ZONE})")
    expect(main.get_by_role("heading", name="Next open slot")).to_be_visible()

    grounds = {}
    for dark in (False, True):
        for width in (1280, PHONE):
            seen = person.artifact_page(run, key, width=width, dark=dark)
            picture = seen.locator("main img").first
            expect(picture).to_be_visible()
            assert picture.evaluate("image => image.complete && image.naturalWidth > 0")
            assert (picture.get_attribute("alt") or "").strip()
            look = readable(seen, picture, 0.2)  # where the names stand
            assert look["contrast"] >= 4.5
            grounds[dark] = look["ground"]
            assert sideways(seen) == []
            person.picture(seen, f"digest-{'dark' if dark else 'light'}-{width}")
    assert grounds[False] > 0.5 > grounds[True]

    table = person.artifact_page(run, f"{key}-table", width=PHONE)
    expect(table.get_by_role("columnheader", name="open_slots")).to_be_visible()
    assert sideways(table) == []
