"""A person decides in the form of a run that waits, and the worker goes on with the answer."""

from __future__ import annotations

import re
import secrets

import pytest
from playwright.sync_api import expect

from prefect_calendly.screening.page import DECISIONS_KEY, SUMMARY_KEY
from tests.support import until
from tests.ui.person import PHONE, Person, choose, field, sideways

pytestmark = pytest.mark.stack

REASON = "Please write to us instead."


@pytest.fixture
def domain() -> str:
    return f"spam-{secrets.token_hex(4)}.example"


def waiting_run(person: Person, domain: str) -> str:
    """Start a run of the deployment that asks, and wait until it does."""
    policy = {"blocked_domains": [domain], "horizon_days": 20}
    run = person.start("cancel-blocked-domains-with-approval", policy=policy)
    until(lambda: person.state(run) == "Suspended")
    return run


def test_a_person_leaves_one_alone_and_signs_and_exactly_the_others_are_cancelled(person: Person, domain: str) -> None:
    wanted, kept = person.book(domain, 3), person.book(domain, 4)
    run = waiting_run(person, domain)
    page = person.resume_form(run)
    form = page.get_by_role("dialog")
    expect(form.get_by_role("heading", name="Cancel 2 events?")).to_be_visible()
    expect(form.get_by_role("listitem")).to_have_count(2)
    first = form.get_by_role("listitem").first
    expect(first).to_contain_text(re.compile(rf"^j…@{domain} \(invitee of {domain}\): \w.* with Alice .*, \w"))

    # Nothing happens as long as nothing is decided, and the message says what is missing.
    submit = form.get_by_role("button", name="Resume")
    submit.click()
    expect(page.get_by_text("not chosen yet (Decision, below the list)")).to_be_visible()
    assert person.state(run) == "Suspended"

    choose(page, form.get_by_label("Decision"), "approve")
    choose(page, form.get_by_label("Leave alone"), re.compile(r"^2\. "), another=True)
    field(form, "Reason").locator("textarea").fill(REASON)
    field(form, "Your name").locator("textarea").fill("Ann Lee")
    person.picture(page, "approval-form")
    submit.click()
    expect(page.get_by_text("Flow run resumed")).to_be_visible()

    until(lambda: person.state(run) == "Completed")
    assert person.event(wanted)["status"] == "canceled"
    assert person.event(wanted)["cancellation"]["reason"] == REASON
    assert person.event(kept)["status"] == "active"

    summary = person.artifact_page(run, SUMMARY_KEY).get_by_role("main")
    expect(summary.get_by_role("heading", level=1)).to_contain_text("1 event canceled")
    expect(summary).to_contain_text("1 of 2 approved by Ann Lee")
    expect(summary).to_contain_text(re.compile(r"with Alice .*canceled"))
    expect(summary.locator(".prose").get_by_role("link")).to_have_count(0)
    table = person.artifact_page(run, DECISIONS_KEY)
    for uuid, happened in ((wanted, "canceled"), (kept, "not canceled: not approved")):
        row = table.get_by_role("row").filter(has_text=uuid)
        expect(row).to_contain_text(happened)
        expect(row).to_contain_text("Ann Lee, ")
    person.picture(table, "approval-table")
    phone = person.artifact_page(run, SUMMARY_KEY, width=PHONE, dark=True)
    assert sideways(phone) == []
    person.picture(phone, "approval-summary-phone")


def test_a_person_rejects_on_a_phone_and_nothing_is_cancelled(person: Person, domain: str) -> None:
    event = person.book(domain, 3)
    run = waiting_run(person, domain)
    page = person.resume_form(run, width=PHONE)
    form = page.get_by_role("dialog")
    expect(form.get_by_role("listitem")).to_contain_text(f"j…@{domain} (invitee of {domain}): ")
    person.picture(page, "approval-form-phone-empty")
    choose(page, form.get_by_label("Decision"), "reject")
    field(form, "Your name").locator("textarea").fill("Bo")
    person.picture(page, "approval-form-phone")
    form.get_by_role("button", name="Resume").click()
    expect(page.get_by_text("Flow run resumed")).to_be_visible()
    until(lambda: person.state(run) == "Completed")
    assert person.event(event)["status"] == "active"
    summary = person.artifact_page(run, SUMMARY_KEY, width=PHONE).get_by_role("main")
    for name in ("Who", "Why"):
        place = until(summary.get_by_role("columnheader", name=name, exact=True).bounding_box)
        assert place["x"] + place["width"] < PHONE
    expect(summary.get_by_role("heading", level=1)).to_contain_text("REJECTED: 1 event to cancel, nothing was changed")
    expect(summary).to_contain_text("rejected by Bo, ")
