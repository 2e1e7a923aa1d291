"""The subscription is made as it should be, whatever is there, and whoever else acts at the same time."""

from __future__ import annotations

import asyncio

import pytest

from prefect_calendly import CalendlyCredentials
from prefect_calendly.client.errors import ConflictError, RoleRequiredError
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.sandbox.seed import SECOND_CONNECTION
from tests.fixtures import credentials_for
from tests.subscription.conftest import Subscriber, uuid
from tests.subscription.examples import HIDDEN, HOOKS, ORGANIZATION, SEEDED_URL, URL, USER


async def test_created_then_unchanged_without_a_write(sandbox: Sandbox, account: Subscriber) -> None:
    first = await account.ensure()
    (made,) = account.hooks()
    assert (first.outcome, first.subscription, first.deleted) == ("created", uuid(made), ())
    assert made["events"] == ["invitee.created", "invitee.canceled"]
    assert (made["scope"], made["user"], made["organization"]) == ("organization", None, ORGANIZATION)
    assert sandbox.stats()["unknown_parameters"] == []

    sandbox.reset_stats()
    second = await account.ensure()
    assert (second.outcome, second.subscription) == ("unchanged", first.subscription)
    assert sandbox.stats()["writes"] == {}
    assert sandbox.stats()["by_route"].get(f"POST {HOOKS}", 0) == 0
    assert second.requests == sandbox.stats()["requests"] == 3
    assert second.seconds > 0


async def test_other_subscriptions_are_left_alone(sandbox: Sandbox, account: Subscriber) -> None:
    before = account.hooks(SEEDED_URL)
    await account.ensure()
    assert account.hooks(SEEDED_URL) == before


async def test_a_disabled_one_is_revived(sandbox: Sandbox, account: Subscriber) -> None:
    old = await account.subscribe()
    sandbox.set_webhook(old, state="disabled")
    report = await account.ensure()
    (made,) = account.hooks()
    assert (report.outcome, report.deleted, made["state"]) == ("revived", (old,), "active")
    assert report.subscription == uuid(made) != old


async def test_one_with_other_events_is_replaced(sandbox: Sandbox, account: Subscriber) -> None:
    old = await account.subscribe()
    report = await account.ensure(events=["invitee.created", "invitee_no_show.created"])
    (made,) = account.hooks()
    assert (report.outcome, report.deleted) == ("replaced", (old,))
    assert made["events"] == ["invitee.created", "invitee_no_show.created"]
    assert "invitee_no_show.created" in report.reason


async def test_one_with_another_scope_is_replaced(sandbox: Sandbox, account: Subscriber) -> None:
    old = await account.subscribe()
    report = await account.ensure(scope="user", events=["invitee.created", "meeting_recap.created"])
    (made,) = account.hooks()
    assert (report.outcome, report.deleted) == ("replaced", (old,))
    assert (made["scope"], made["user"]) == ("user", USER)
    back = await account.ensure()
    assert (back.outcome, back.deleted) == ("replaced", (uuid(made),))


async def test_a_group_can_be_subscribed(sandbox: Sandbox, account: Subscriber) -> None:
    async with account.credentials.get_client() as client:
        groups = await client.request("GET", "/groups", params={"organization": ORGANIZATION})
    group = groups["collection"][0]["uri"]
    assert (await account.ensure(scope="group", group=group)).outcome == "created"
    assert (await account.ensure(scope="group", group=group)).outcome == "unchanged"
    assert account.hooks()[0]["group"] == group


async def test_several_of_one_url_end_as_one(sandbox: Sandbox, account: Subscriber) -> None:
    keep, extra = await account.subscribe(), await account.subscribe(url=URL + "2")
    # The sandbox, like Calendly, refuses two of one URL: let the listing show the second under the first's.
    sandbox.fault("enum_value", method="GET", route=HOOKS, member="callback_url", value=URL, item=2)
    report = await account.ensure()
    assert (report.outcome, report.subscription, report.deleted) == ("unchanged", keep, (extra,))
    assert account.uuids == [keep]
    assert account.hooks(URL + "2") == []


async def test_a_user_who_is_no_admin_can_subscribe_for_themselves(sandbox: Sandbox, account: Subscriber) -> None:
    account.credentials = as_plain_user(sandbox)
    assert (await account.ensure(scope="user")).outcome == "created"
    assert (await account.ensure(scope="user")).outcome == "unchanged"


async def test_a_user_who_is_no_admin_learns_so_for_the_organization(sandbox: Sandbox, account: Subscriber) -> None:
    account.credentials = as_plain_user(sandbox)
    with pytest.raises(RoleRequiredError, match="owner or admin"):
        await account.ensure()
    assert account.hooks() == []
    with pytest.raises(RoleRequiredError):
        await account.ensure(dry_run=True)
    assert "Dry run failed" in account.page


@pytest.mark.parametrize("situation", ["none", "fitting", "disabled", "differing"])
async def test_a_dry_run_says_what_it_would_do_and_changes_nothing(
    sandbox: Sandbox, account: Subscriber, situation: str
) -> None:
    old = None
    if situation != "none":
        events = ["invitee.created"] if situation == "differing" else ["invitee.created", "invitee.canceled"]
        old = await account.subscribe(events=events)
        if situation == "disabled":
            sandbox.set_webhook(old, state="disabled")
    before = sandbox.state()["webhook_subscription_list"]
    sandbox.reset_stats()
    report = await account.ensure(dry_run=True)
    outcomes = {"none": "created", "fitting": "unchanged", "disabled": "revived", "differing": "replaced"}
    assert (report.outcome, report.dry_run) == (outcomes[situation], True)
    assert report.subscription == (old if situation == "fitting" else None)
    assert report.deleted == ((old,) if situation in ("disabled", "differing") else ())
    assert sandbox.state()["webhook_subscription_list"] == before
    assert {route.partition(" ")[0] for route in sandbox.stats()["by_route"]} == {"GET"}
    text = account.page
    assert "Dry run, nothing was changed" in text
    assert outcomes[situation] in text


def as_plain_user(sandbox: Sandbox) -> CalendlyCredentials:
    user = sandbox.add_user("Paula Plain", email="paula@example.com")["uri"]
    sandbox.set_connection(SECOND_CONNECTION, user=user)
    return credentials_for(sandbox, connection_id=SECOND_CONNECTION)


# Races


@pytest.mark.parametrize("situation", ["none", "differing"])
async def test_two_runs_at_once_end_with_one_subscription(
    sandbox: Sandbox, account: Subscriber, situation: str
) -> None:
    sandbox.reset(latency_ms=20)
    if situation != "none":
        await account.subscribe(
            events=["invitee.created"] if situation == "differing" else ["invitee.created", "invitee.canceled"],
        )
    reports = await asyncio.gather(account.ensure(), account.ensure())
    (made,) = account.hooks()
    assert made["state"] == "active"
    assert set(made["events"]) == {"invitee.created", "invitee.canceled"}
    assert {report.subscription for report in reports} == {uuid(made)}
    changed = {"none": "created", "differing": "replaced"}[situation]
    assert {report.outcome for report in reports} <= {"unchanged", changed}
    assert changed in {report.outcome for report in reports}


async def test_a_listing_that_is_behind_ends_as_unchanged(sandbox: Sandbox, account: Subscriber) -> None:
    old = await account.subscribe()
    hide_once(sandbox)
    report = await account.ensure()
    assert (report.outcome, report.subscription, report.deleted) == ("unchanged", old, ())
    assert account.uuids == [old]


async def test_a_listing_that_is_behind_ends_as_replaced(sandbox: Sandbox, account: Subscriber) -> None:
    old = await account.subscribe(events=["invitee.created"])
    hide_once(sandbox)
    report = await account.ensure()
    assert (report.outcome, report.deleted) == ("replaced", (old,))
    assert account.uuids == [report.subscription]


async def test_one_that_is_not_found_when_it_is_to_be_deleted_is_looked_for_again(
    sandbox: Sandbox, account: Subscriber
) -> None:
    old = await account.subscribe(events=["invitee.created"])
    sandbox.fault("not_found", method="DELETE")
    report = await account.ensure()
    assert (report.outcome, report.deleted) == ("replaced", (old,))
    assert account.uuids == [report.subscription]


async def test_a_url_that_is_taken_where_nobody_may_look_is_an_error_and_nothing_is_deleted(
    sandbox: Sandbox, account: Subscriber
) -> None:
    other = sandbox.add_user("Olga Other", email="olga@example.com")["uri"]
    old = await account.subscribe(scope="user", user=other)
    with pytest.raises(ConflictError, match="another user") as caught:
        await account.ensure()
    assert account.uuids == [old]
    assert HIDDEN not in str(caught.value)
    assert sandbox.stats()["by_route"][f"POST {HOOKS}"] <= 6


def hide_once(sandbox: Sandbox) -> None:
    """Let the next listing lack the URL, as one that is served from behind would."""
    sandbox.fault("enum_value", method="GET", route=HOOKS, member="callback_url", value="https://other.example/")
