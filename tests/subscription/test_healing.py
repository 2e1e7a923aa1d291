"""A subscription that heals: keys are made and replaced, and bookings that were not delivered get their events."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flows import ensure_webhook_subscription as flow_page
from prefect_calendly.subscription import apply
from prefect_calendly.subscription.gap import GapNotFilledError
from prefect_calendly.webhooks.signature import HEADER, sign, verify
from tests.subscription.conftest import Subscriber

BLOCK = "calendly-key"
BACKFILLED = [("calendly.invitee.created", "backfill")]


def book(account: Subscriber) -> str:
    """Somebody books; return the event's URI."""
    return str(account.sandbox.add_event(invitees=[{"email": "jane@shop.example"}]))


def grow_older(account: Subscriber, age: timedelta) -> None:
    """Let the key have been made, and used, so much earlier."""
    value = account.secrets[BLOCK]
    for times in (value, *value["subscriptions"].values()):
        for name in times.keys() & {"made_at", "subscribed_at"}:
            times[name] = (datetime.fromisoformat(times[name]) - age).isoformat()


# Keys


async def test_a_key_is_made_when_there_is_none_and_then_kept(account: Subscriber) -> None:
    foreseen = await account.ensure(signing_key_block=BLOCK, dry_run=True)
    assert (foreseen.outcome, foreseen.signing_key) == ("created", "made")
    assert account.secrets == {}

    first = await account.ensure(signing_key_block=BLOCK)
    assert (first.outcome, first.signing_key) == ("created", "made")
    key = (await account.ring()).newest.get_secret_value()
    assert account.key_of(first.subscription) == key
    assert len(key) >= 40

    again = await account.ensure(signing_key_block=BLOCK)
    assert (again.outcome, again.signing_key, again.subscription) == ("unchanged", None, first.subscription)
    assert key not in account.page + again.model_dump_json()
    assert "made" in account.page


async def test_one_that_was_made_with_a_key_that_nobody_knows_is_replaced(account: Subscriber) -> None:
    old = (await account.ensure()).subscription
    report = await account.ensure(signing_key_block=BLOCK)
    assert (report.outcome, report.deleted) == ("replaced", (old,))
    assert "signing key" in report.reason


async def test_a_key_that_somebody_has_saved_stays_as_it_is_until_it_is_to_be_rotated(account: Subscriber) -> None:
    account.secrets[BLOCK] = "whsec-of-a-person"
    first = await account.ensure(signing_key_block=BLOCK)
    assert account.key_of(first.subscription) == "whsec-of-a-person"
    assert (await account.ensure(signing_key_block=BLOCK)).outcome == "unchanged"
    assert account.secrets[BLOCK] == "whsec-of-a-person"
    report = await account.ensure(signing_key_block=BLOCK, rotate=True)
    assert (report.outcome, report.signing_key) == ("replaced", "replaced")
    assert [key.get_secret_value() for key in (await account.ring()).keys[1:]] == ["whsec-of-a-person"]


async def test_a_key_is_rotated_and_both_are_accepted(account: Subscriber) -> None:
    first = await account.ensure(signing_key_block=BLOCK)
    old = (await account.ring()).newest.get_secret_value()
    grow_older(account, timedelta(days=31))
    report = await account.ensure(signing_key_block=BLOCK, rotate_key_after_days=30)
    assert (report.outcome, report.signing_key, report.deleted) == ("replaced", "replaced", (first.subscription,))
    ring = await account.ring()
    assert [account.key_of(report.subscription), old] == [key.get_secret_value() for key in ring.keys]
    assert account.uuids == [report.subscription]
    assert ring.fits(str(report.subscription))
    body, now = b"{}", datetime.now(UTC)
    for key in ring.keys:
        verify({HEADER: sign(body, key, now)}, body, ring.keys, now)
    assert (await account.ensure(signing_key_block=BLOCK, rotate_key_after_days=30, rotate=True)).outcome == "unchanged"


async def test_two_days_after_a_rotation_the_old_key_is_dropped(account: Subscriber) -> None:
    await account.ensure(signing_key_block=BLOCK)
    grow_older(account, timedelta(hours=2))
    await account.ensure(signing_key_block=BLOCK, rotate=True)
    assert len((await account.ring()).keys) == 2
    assert "1 old one accepted too" in account.page
    grow_older(account, timedelta(days=2))
    assert (await account.ensure(signing_key_block=BLOCK)).outcome == "unchanged"
    assert len((await account.ring()).keys) == 1


async def test_a_block_of_the_former_format_goes_on_without_a_new_subscription(account: Subscriber) -> None:
    first = await account.ensure(signing_key_block=BLOCK)
    value = account.secrets[BLOCK]
    (made,) = value.pop("subscriptions").values()
    value |= {"subscription": made["uuid"], "subscribed_at": made["subscribed_at"]}
    again = await account.ensure(signing_key_block=BLOCK)
    assert (again.outcome, again.subscription) == ("unchanged", first.subscription)
    assert "subscriptions" in account.secrets[BLOCK]


@pytest.mark.parametrize("value", ["", "  ", 7])
async def test_a_block_that_cannot_be_used_is_refused_before_any_request(account: Subscriber, value: Any) -> None:
    account.secrets[BLOCK] = value
    with pytest.raises(ValueError, match=r"signing_key_block.*'calendly-key'.*it must hold"):
        await account.ensure(signing_key_block=BLOCK)
    assert account.sandbox.stats()["requests"] == 0
    assert "it must hold" in account.page


async def test_rotating_without_a_block_is_refused_before_any_request(account: Subscriber) -> None:
    with pytest.raises(ValueError, match="rotate_key_now needs signing_key_block"):
        await account.ensure(rotate=True)
    assert account.sandbox.stats()["requests"] == 0


async def test_two_runs_at_once_with_a_key_end_with_one_subscription(account: Subscriber) -> None:
    account.sandbox.reset(latency_ms=20)
    await asyncio.gather(*(account.ensure(signing_key_block=BLOCK) for _ in range(2)))
    (made,) = account.uuids
    assert account.key_of(made) == (await account.ring()).newest.get_secret_value()
    assert (await account.ensure(signing_key_block=BLOCK)).subscription == made


# A run that is killed


class Killed(BaseException):
    """As if the process had died."""


@pytest.mark.parametrize(
    ("place", "name", "call"),
    [
        (flow_page, "apply", 1),  # the new key is saved
        (apply, "subscribe", 1),  # the gap is noted
        (apply, "delete_subscriptions", 1),  # the URL was found to be taken
        (apply, "_subscribe", 2),  # the old one is deleted
        (apply, "update_keys", 1),  # the new one is made
        (flow_page, "drop_old_keys", 1),  # and noted
        (apply, "fill_gap", 1),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_after_a_run_that_was_killed_at_any_step_of_a_rotation_the_next_ends_as_if_nothing_had_been(
    account: Subscriber, monkeypatch: pytest.MonkeyPatch, place: Any, name: str, call: int
) -> None:
    first = await account.ensure(signing_key_block=BLOCK, backfill=True)
    old = (await account.ring()).newest
    grow_older(account, timedelta(days=1))
    real, calls = getattr(place, name), 0

    async def killed(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls >= call:
            raise Killed
        return await real(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(place, name, killed)
        with pytest.raises(Killed):
            await account.ensure(signing_key_block=BLOCK, backfill=True, rotate=True)
    missed = book(account)
    report = await account.ensure(signing_key_block=BLOCK, backfill=True, rotate=True)
    ring = await account.ring()
    assert account.uuids == [report.subscription]
    assert ring.fits(str(report.subscription))
    assert account.key_of(report.subscription) == ring.newest.get_secret_value()
    assert old in ring.keys
    assert report.subscription != first.subscription
    assert account.inline.events.about(missed) == (BACKFILLED if report.gap_since else [])
    if name not in ("apply", "drop_old_keys"):  # nothing was changed yet, or all is as it should be
        assert report.gap_since is not None


# Bookings that were not delivered


async def disabled_with_a_missed_booking(account: Subscriber) -> str:
    first = await account.ensure(backfill=True)
    assert first.gap_since is None
    assert first.subscription is not None
    account.sandbox.set_webhook(first.subscription, state="disabled")
    return book(account)


async def test_bookings_while_it_was_disabled_get_their_events(account: Subscriber) -> None:
    missed = await disabled_with_a_missed_booking(account)
    report = await account.ensure(backfill=True)
    assert report.outcome == "revived"
    assert report.gap_since is not None
    assert report.gap_emitted is not None
    assert report.gap_emitted >= 1
    assert account.inline.events.about(missed) == BACKFILLED
    assert "emitted now" in account.page
    again = await account.ensure(backfill=True)
    assert (again.outcome, again.gap_since) == ("unchanged", None)


async def test_a_gap_that_could_not_be_filled_is_filled_by_the_next_run(account: Subscriber) -> None:
    missed = await disabled_with_a_missed_booking(account)
    account.sandbox.fault("server_error", method="GET", route="/scheduled_events", times=None)
    with pytest.raises(GapNotFilledError, match="it tries again"):
        await account.ensure(backfill=True)
    assert len(account.uuids) == 1
    assert "not backfilled yet" in account.page
    account.sandbox.clear_faults()
    report = await account.ensure(backfill=True)
    assert (report.outcome, report.gap_since is not None) == ("unchanged", True)
    assert account.inline.events.about(missed) == BACKFILLED


async def test_for_other_events_than_bookings_gaps_are_not_looked_for(account: Subscriber) -> None:
    for _ in range(2):
        report = await account.ensure(backfill=True, events=["routing_form_submission.created"])
        assert report.gap_since is None
    assert "not looked for" in account.page


async def test_a_state_that_cannot_be_read_is_an_error_that_says_what_to_do(account: Subscriber) -> None:
    await account.ensure(backfill=True)
    (name,) = account.inline.states
    account.inline.states[name] = {"working_until": "the other day"}
    with pytest.raises(ValueError, match=f"calendly-state/{name} .* delete it"):
        await account.ensure(backfill=True)
