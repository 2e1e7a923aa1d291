"""A custom run of cancel-blocked-domains, filled in by hand; what becomes of it, and its artifacts."""

from __future__ import annotations

import inspect
import secrets

import pytest
from playwright.sync_api import Page, expect

from flows.cancel_blocked_domains import cancel_blocked_domains
from prefect_calendly.screening.page import DECISIONS_KEY, SUMMARY_KEY
from prefect_calendly.screening.policy import CancelPolicy
from prefect_calendly.screening.scan import PROGRESS_KEY
from tests.support import until
from tests.ui.person import (
    PHONE,
    Person,
    add_item,
    choose,
    created_run,
    field,
    labels,
    open_tab,
    search,
    sideways,
)

pytestmark = pytest.mark.stack

DEPLOYMENT = "cancel-blocked-domains-dry-run"
ENDED = 300_000


def test_every_field_of_the_form_has_its_place_and_its_help(person: Person) -> None:
    page = person.run_form(DEPLOYMENT)
    wanted = list(inspect.signature(cancel_blocked_domains.fn).parameters)
    policy = CancelPolicy.model_json_schema()["properties"]
    order = [policy[name]["title"] for name in CancelPolicy.model_fields]
    shown = [text.removesuffix(" (Optional)") for text in labels(page).all_inner_texts()]
    # Prefect's own fields stand around ours.
    first = shown.index("credentials")
    assert shown[first:][: len(wanted) + len(order)] == ["credentials", "policy", *order, *wanted[2:]]
    for name, schema in policy.items():
        expect(field(page, order[list(policy).index(name)])).to_contain_text(schema["description"])
    for name in wanted:
        help_text = field(page, name).locator("label + p").first
        assert len(help_text.inner_text()) > 10, f"{name} has no help"
    # Where nothing need be filled in, the form does not ask for a choice of types.
    expect(page.get_by_role("main")).not_to_contain_text('Property is type "None"')
    person.picture(page, "cancel-form")


def test_the_form_fits_a_phone(person: Person) -> None:
    page = person.run_form(DEPLOYMENT, width=PHONE)
    assert sideways(page) == []
    person.picture(page, "cancel-form-phone")


def test_the_form_refuses_what_the_flow_would_refuse(person: Person) -> None:
    page = person.run_form(DEPLOYMENT)
    before = person.number_of_runs()
    for title, wrong, right, message in (
        ("Blocked Domains", "jane@spam.example", "spam.example", "'a domain such as spam.example' was expected"),
        ("Blocked Domains", "*.spam.example", "spam.example", "'a domain such as spam.example' was expected"),
        ("Allowed Domains", "welcome", "welcome.example", "'a domain such as spam.example' was expected"),
        ("Allowed Emails", "jane", "jane@spam.example", "'an address such as jane@example.com' was expected"),
        ("Notify", "ops", "slack-webhook/ops", "such as slack-webhook/ops' was expected"),
        ("Reason", "x" * 10_001, "Spam", "is too long"),
    ):
        at = field(page, title)
        if at.get_by_role("button", name="Add item").count():
            add_item(at, wrong)
        else:
            at.locator("textarea").fill(wrong)
        page.get_by_role("button", name="Submit").click()
        expect(at).to_contain_text(message)
        assert person.number_of_runs() == before
        at.locator("textarea").last.fill(right)


def test_the_form_wants_at_least_one_domain(person: Person) -> None:
    page = person.run_form(DEPLOYMENT)
    before = person.number_of_runs()
    at = field(page, "Blocked Domains")
    while at.locator("textarea").count():
        at.get_by_role("button", name="Open menu").last.click()
        page.get_by_role("menuitem", name="Delete").click()
    page.get_by_role("button", name="Submit").click()
    expect(at).to_contain_text("'blocked_domains' is a required property")
    assert person.number_of_runs() == before


def test_numbers_out_of_range_are_refused_before_they_are_sent(person: Person) -> None:
    page = person.run_form(DEPLOYMENT)
    before = person.number_of_runs()
    page.get_by_label("Horizon Days").fill("0")
    page.get_by_role("button", name="Submit").click()
    message = page.get_by_label("Horizon Days").evaluate("field => field.validationMessage")
    assert message == "Value must be greater than or equal to 1."
    assert person.number_of_runs() == before


def test_a_run_from_the_form_appears_ends_and_leaves_artifacts_that_read_well(person: Person) -> None:
    domain = f"spam-{secrets.token_hex(4)}.example"
    soon, late = person.book(domain, 3), person.book(domain, 40)
    page = person.run_form(DEPLOYMENT)
    choose(page, page.get_by_role("button", name="Select a block"), "main")
    add_item(field(page, "Blocked Domains"), domain.upper())
    choose(page, page.get_by_label("Scope"), "user")
    choose(page, page.get_by_label("Group Events"), "cancel")
    page.get_by_label("Horizon Days").fill("20")
    page.get_by_label("Max Cancellations").fill("50")
    person.picture(page, "cancel-form-filled-in")
    run = created_run(page, page.get_by_role("button", name="Submit").click)
    page.get_by_role("button", name="View run").click()
    expect(page.get_by_role("tab", name="Logs")).to_be_visible()  # until then it is the page before
    expect(page.get_by_role("main").get_by_text("Completed", exact=True).first).to_be_visible(timeout=ENDED)
    expect(page.get_by_role("main")).to_contain_text("cancel blocked domains (dry run)")
    person.picture(page, "cancel-run")

    page = person.run_page(run)  # a tab that was opened before has not heard of them
    open_tab(page, "Artifacts")
    page.get_by_role("tabpanel").get_by_text(SUMMARY_KEY, exact=True).click()
    page.wait_for_url(f"**/artifacts/artifact/{person.artifact(run, SUMMARY_KEY)['id']}*")  # this run's version of it
    main = page.get_by_role("main")
    expect(main.get_by_role("heading", level=1)).to_contain_text("DRY RUN:")
    expect(main).to_contain_text("would be canceled, nothing was changed")
    expect(main).to_contain_text("of the current user")
    expect(main).to_contain_text("4 blocked domains")
    expect(main).to_contain_text("(cap 50)")
    expect(main).to_contain_text("Nothing: no event was changed.")
    person.picture(page, "cancel-summary")

    table = person.artifact_page(run, DECISIONS_KEY)
    row = search(table, soon)
    expect(row).to_contain_text("would be canceled")
    expect(row).to_contain_text(f"j…@{domain}")
    expect(row).to_contain_text(f"invitee of {domain}")
    person.picture(table, "cancel-decisions")
    expect(search(table, late)).to_have_text("No results.")

    for key in (SUMMARY_KEY, DECISIONS_KEY):
        phone = person.artifact_page(run, key, width=PHONE, dark=True)
        assert sideways(phone) == []
        person.picture(phone, f"{key}-phone")
    assert person.event(soon)["status"] == "active"


def test_long_work_shows_a_percentage_that_moves(person: Person) -> None:
    slow = person.save_credentials("slow", requests_per_second=2)
    policy = {"blocked_domains": ["spam.example"], "scope": "organization"}
    run = person.start(DEPLOYMENT, credentials=slow, policy=policy)
    until(lambda: person.artifacts(run, PROGRESS_KEY))
    page = person.artifact_page(run, PROGRESS_KEY)
    first = _percentage(page)
    person.picture(page, "progress")
    for _ in range(30):
        page.wait_for_timeout(1_000)
        page.reload()
        if (then := _percentage(page)) > first:
            break
    assert 0 <= first < then <= 100


def _percentage(page: Page) -> int:
    text = page.get_by_text("Progress: ")
    expect(text).to_be_visible()
    return int(text.inner_text().removeprefix("Progress: ").removesuffix("%"))
