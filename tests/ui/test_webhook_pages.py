"""The forms of the flows around webhooks, and what they leave, as a person sees them: on a desk and on a phone."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect
from pydantic import BaseModel

from prefect_calendly.bookings.polling import BookingsToPoll
from prefect_calendly.bookings.polling_page import SUMMARY_KEY as POLL_KEY
from prefect_calendly.bookings.reconciliation import BookingsToReconcile
from prefect_calendly.bookings.reconciliation_page import SUMMARY_KEY as RECONCILE_KEY
from prefect_calendly.screening.page import SCREEN_SUMMARY_KEY as SCREEN_KEY
from prefect_calendly.subscription.publish import ARTIFACT_KEY
from prefect_calendly.subscription.spec import SubscriptionSpec
from tests.support import until
from tests.ui.person import PHONE, Person, field, labels, sideways

pytestmark = pytest.mark.stack

FORMS = [
    ("ensure-webhook-subscription", SubscriptionSpec),
    ("poll-bookings", BookingsToPoll),
    ("reconcile-bookings", BookingsToReconcile),
]


@pytest.mark.parametrize(("deployment", "model"), FORMS, ids=[name for name, _ in FORMS])
def test_every_field_has_its_place_and_its_help_also_on_a_phone(
    person: Person, deployment: str, model: type[BaseModel]
) -> None:
    page = person.run_form(deployment, width=PHONE)
    fields = model.model_json_schema()["properties"]
    titles = [schema["title"] for schema in sorted(fields.values(), key=lambda schema: schema["position"])]
    shown = [text.removesuffix(" (Optional)") for text in labels(page).all_inner_texts()]
    first = shown.index(titles[0])
    assert shown[first:][: len(titles)] == titles
    for schema in fields.values():
        expect(field(page, schema["title"])).to_contain_text(schema["description"])
    expect(page.get_by_role("main")).not_to_contain_text('Property is type "None"')
    assert sideways(page) == []
    person.picture(page, f"{deployment}-form-phone")


def test_a_booking_that_was_screened_can_be_looked_at(person: Person) -> None:
    before = {run["id"] for run in screened(person)}
    event = person.book("blocked.example", 3)
    (run,) = until(lambda: [run for run in screened(person) if run["id"] not in before and ended(run)])
    assert run["state"]["name"] == "Completed"
    assert person.event(event)["status"] == "canceled"
    page = person.artifact_page(run["id"], SCREEN_KEY, width=PHONE)
    expect(page.locator("main")).to_contain_text("1 event canceled")
    assert sideways(page) == []
    person.picture(page, "screen-booking-phone")


@pytest.mark.parametrize(
    ("deployment", "key", "text"),
    [
        ("ensure-webhook-subscription", ARTIFACT_KEY, "Webhook subscription"),
        ("poll-bookings", POLL_KEY, "Cursor"),
        ("reconcile-bookings", RECONCILE_KEY, "came by webhook"),
    ],
)
def test_what_a_run_leaves_fits_a_phone(person: Person, deployment: str, key: str, text: str) -> None:
    run = person.start(deployment)
    until(lambda: person.state(run) in ("Completed", "Failed", "Crashed"))
    assert person.state(run) == "Completed"
    page = person.artifact_page(run, key, width=PHONE)
    expect(page.locator("main")).to_contain_text(text)
    assert sideways(page) == []
    person.picture(page, f"{deployment}-phone")


def screened(person: Person) -> list[dict[str, object]]:
    wanted = {"deployments": {"name": {"any_": ["screen-booking"]}}}
    return list(person.api("/flow_runs/filter", wanted))


def ended(run: dict[str, object]) -> bool:
    return run["state_type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
