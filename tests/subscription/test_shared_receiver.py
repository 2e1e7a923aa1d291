"""Subscriptions that share a receiver and its signing keys: none of them gets in the way of another."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from prefect_calendly.sandbox import Sandbox
from prefect_calendly.sandbox.seed import SECOND_CONNECTION, SECOND_ORGANIZATION
from tests.fixtures import credentials_for
from tests.subscription.conftest import Subscriber
from tests.subscription.examples import API
from tests.subscription.test_healing import BACKFILLED, BLOCK, book, grow_older


@pytest.fixture
def other(account: Subscriber, sandbox: Sandbox) -> Subscriber:
    """An admin's account of another organization, with the same receiver and the same Secret block."""
    organization = f"{API}/organizations/{SECOND_ORGANIZATION}"
    users = sandbox._server._app._state.world.users.values()
    (owner,) = [user.uuid for user in users if user.name == "Marta Nowak"]
    sandbox.set_connection(SECOND_CONNECTION, user=f"{API}/users/{owner}")
    credentials = credentials_for(sandbox, connection_id=SECOND_CONNECTION)
    return replace(account, credentials=credentials, organization=organization)


async def test_two_organizations_with_one_receiver_and_one_key_block_leave_each_other_alone(
    account: Subscriber, other: Subscriber
) -> None:
    first, second = [await each.ensure(signing_key_block=BLOCK) for each in (account, other)]
    assert (first.outcome, second.outcome) == ("created", "created")
    key = (await account.ring()).newest.get_secret_value()
    assert account.key_of(first.subscription) == other.key_of(second.subscription) == key
    for _ in range(2):
        for each, made in ((account, first), (other, second)):
            again = await each.ensure(signing_key_block=BLOCK)
            assert (again.outcome, again.subscription, again.deleted) == ("unchanged", made.subscription, ())


async def test_a_key_that_one_rotates_is_taken_up_by_the_other_and_the_old_one_accepted_until_then(
    account: Subscriber, other: Subscriber
) -> None:
    for each in (account, other):
        await each.ensure(signing_key_block=BLOCK)
    old = (await account.ring()).newest
    grow_older(account, timedelta(days=9))
    assert (await account.ensure(signing_key_block=BLOCK, rotate=True)).signing_key == "replaced"
    grow_older(account, timedelta(days=9))
    assert (await account.ensure(signing_key_block=BLOCK)).outcome == "unchanged"
    assert old in (await account.ring()).keys  # the other one still has it

    report = await other.ensure(signing_key_block=BLOCK)
    assert (report.outcome, report.signing_key) == ("replaced", None)
    grow_older(account, timedelta(days=2))
    for each in (account, other):
        assert (await each.ensure(signing_key_block=BLOCK)).outcome == "unchanged"
    assert [key == old for key in (await account.ring()).keys] == [False]


async def test_a_gap_of_one_is_not_filled_with_the_bookings_of_the_other_nor_forgotten_because_of_it(
    account: Subscriber, other: Subscriber
) -> None:
    for each in (account, other):
        assert (await each.ensure(backfill=True)).gap_since is None
    account.sandbox.set_webhook(account.uuids[0], state="disabled")
    missed = book(account)
    assert (await other.ensure(backfill=True)).gap_since is None
    assert account.inline.events.about(missed) == []
    assert (await account.ensure(backfill=True)).gap_since is not None
    assert account.inline.events.about(missed) == BACKFILLED
    assert len(account.inline.states) == 2


async def test_a_second_user_of_an_organization_has_a_state_of_their_own(account: Subscriber, sandbox: Sandbox) -> None:
    user = sandbox.add_user("Paula Plain", email="paula@example.com")["uri"]
    sandbox.set_connection(SECOND_CONNECTION, user=user)
    second = replace(
        account, credentials=credentials_for(sandbox, connection_id=SECOND_CONNECTION), url=account.url + "2"
    )
    for each in (account, second, replace(account, url=account.url + "3")):
        await each.ensure(backfill=True, scope="user", signing_key_block=BLOCK)
    assert len(account.inline.states) == 3
    for each in (account, second):
        assert (await each.ensure(backfill=True, scope="user", signing_key_block=BLOCK)).outcome == "unchanged"
