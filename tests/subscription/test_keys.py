"""The ring of signing keys: when a new one is due, who has which, and how long old ones are accepted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from prefect_calendly.subscription import keys as module
from prefect_calendly.subscription.keys import KeyRing, load_keys, prepare_keys, update_keys

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
ONE, TWO = "webhook-of-one", "webhook-of-two"


def used(ring: KeyRing, name: str, uuid: str, now: datetime = NOW) -> KeyRing:
    """The ring with a subscription that was made with its newest key."""
    return ring.with_subscription(name, uuid, ring.newest, now)


# When a new key is due


def test_a_new_key_is_due_by_age_or_on_request_but_not_twice() -> None:
    made = KeyRing.new(NOW)
    assert not made.is_due(1, NOW + timedelta(days=9), rotate_now=True)  # it was never used
    ring = used(made, ONE, "HOOK")
    assert not ring.is_due(None, NOW + timedelta(days=999), rotate_now=False)
    assert not ring.is_due(90, NOW + timedelta(days=89), rotate_now=False)
    assert ring.is_due(90, NOW + timedelta(days=90), rotate_now=False)
    assert not ring.is_due(None, NOW + timedelta(minutes=59), rotate_now=True)
    assert ring.is_due(None, NOW + timedelta(hours=1), rotate_now=True)


def test_a_new_key_that_another_subscription_has_not_got_yet_is_no_reason_to_wait() -> None:
    both = used(used(KeyRing.new(NOW), ONE, "HOOK1"), TWO, "HOOK2")
    half = used(both.with_new_key(NOW), ONE, "HOOK3")
    assert half.is_due(90, NOW + timedelta(days=90), rotate_now=False)
    assert not both.with_new_key(NOW).is_due(90, NOW + timedelta(days=90), rotate_now=False)


# Who has which key


def test_each_of_several_subscriptions_fits_as_long_as_it_has_the_newest_key() -> None:
    both = used(used(KeyRing.new(NOW), ONE, "HOOK1"), TWO, "HOOK2")
    assert both.fits("HOOK1")
    assert both.fits("HOOK2")
    half = used(both.with_new_key(NOW), ONE, "HOOK3")
    assert [half.fits(uuid) for uuid in ("HOOK1", "HOOK2", "HOOK3")] == [False, False, True]


def test_a_subscription_takes_the_place_of_the_former_one_and_of_those_that_were_deleted() -> None:
    ring = used(used(KeyRing.new(NOW), ONE, "HOOK1"), "another scope", "HOOK2")
    ring = ring.with_subscription(ONE, "HOOK3", ring.newest, NOW, deleted=["HOOK2"])
    assert ring.subscriptions is not None
    assert {name: each.uuid for name, each in ring.subscriptions.items()} == {ONE: "HOOK3"}


def test_a_key_that_another_run_has_left_out_is_accepted_again_and_its_subscription_does_not_fit() -> None:
    mine, theirs = KeyRing.new(NOW), KeyRing.new(NOW)
    ring = theirs.with_subscription(ONE, "HOOK1", mine.newest, NOW)
    assert ring.keys == (theirs.newest, mine.newest)
    assert not ring.fits("HOOK1")


# How long old keys are accepted


def test_an_old_key_is_accepted_two_days_after_the_new_one_was_used() -> None:
    old = used(KeyRing.new(NOW), ONE, "HOOK1")
    both = old.with_new_key(NOW)
    assert both.keys[1:] == old.keys
    assert both.newest != old.newest
    assert both.pruned(NOW + timedelta(days=99)) == both  # the subscription still has the old one
    ring = used(both, ONE, "HOOK2")
    assert ring.pruned(NOW + timedelta(hours=47)) == ring
    assert ring.pruned(NOW + timedelta(hours=48)).keys == ring.keys[:1]


def test_an_old_key_is_accepted_as_long_as_any_subscription_has_it() -> None:
    first = used(used(KeyRing.new(NOW), ONE, "HOOK1"), TWO, "HOOK2")
    second = used(first.with_new_key(NOW), ONE, "HOOK3")
    third = used(second.with_new_key(NOW), ONE, "HOOK4")
    later = NOW + timedelta(days=9)
    assert third.pruned(later).keys == (third.newest, first.newest)  # TWO has the first; nobody has the second
    last = used(third.pruned(later), TWO, "HOOK5", later)
    assert last.pruned(later + timedelta(days=2)).keys == (third.newest,)


# What a block holds


def test_what_is_saved_is_read_back() -> None:
    ring = used(used(KeyRing.new(NOW), ONE, "HOOK1").with_new_key(NOW), TWO, "HOOK2")
    assert KeyRing.parse(ring.as_value()) == ring
    assert ring.newest.get_secret_value() not in repr(ring)


@pytest.mark.parametrize("value", ["whsec-plain", {"keys": ["whsec-plain"]}])
def test_of_a_key_that_somebody_else_has_saved_nothing_is_assumed(value: Any) -> None:
    theirs = KeyRing.parse(value)
    assert theirs.fits("ANY")
    assert not theirs.is_due(None, NOW, rotate_now=False)
    assert theirs.is_due(999, NOW, rotate_now=False)  # of unknown age
    assert theirs.with_new_key(NOW).keys[1:] == theirs.keys
    assert used(theirs, ONE, "HOOK1") == theirs
    assert KeyRing.parse(theirs.as_value()) == theirs


@pytest.mark.parametrize("wrong", ["", " ", None, 7, [], {}, {"keys": []}, {"keys": [""]}])
def test_a_block_with_something_else_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="it must hold"):
        KeyRing.parse(wrong)


FORMER = {
    "keys": ["whsec-new", "whsec-old"],
    "made_at": NOW.isoformat(),
    "subscription": "HOOK1",
    "subscribed_at": NOW.isoformat(),
}


def test_a_block_of_the_former_format_keeps_its_keys_and_its_subscription() -> None:
    ring = KeyRing.parse(FORMER)
    assert [key.get_secret_value() for key in ring.keys] == ["whsec-new", "whsec-old"]
    assert (ring.made_at, ring.fits("HOOK1"), ring.fits("HOOK2")) == (NOW, True, False)
    owned = ring.with_owner(ONE, "HOOK1")
    assert owned.fits("HOOK1")
    assert owned.subscriptions is not None
    assert list(owned.subscriptions) == [ONE]
    assert ring.with_owner(TWO, "HOOK2") == ring
    assert owned.pruned(NOW + timedelta(days=2)).keys == ring.keys[:1]
    # One that is not used yet
    unused = KeyRing.parse({**FORMER, "subscription": None, "subscribed_at": None})
    assert (unused.keys, unused.subscriptions) == (ring.keys, {})


@pytest.mark.parametrize(
    "wrong",
    [
        {"made_at": "the other day"},
        {"subscription": 7},
        {"subscriptions": 7},
        {"subscriptions": {ONE: {"uuid": "HOOK1"}}},
        {"subscriptions": {ONE: {"uuid": "HOOK1", "key": None, "subscribed_at": NOW.isoformat()}}},
    ],
)
async def test_a_ring_that_cannot_be_read_is_an_error_that_shows_nothing_of_it(
    wrong: dict[str, Any], secrets: dict[str, Any]
) -> None:
    secrets["calendly-key"] = {**FORMER, **wrong}
    with pytest.raises(ValueError, match=r"signing_key_block.*'calendly-key'.*not as this flow writes it") as caught:
        await load_keys("calendly-key")
    assert "whsec" not in str(caught.value)
    assert caught.value.__context__ is None


# Runs at the same time


async def test_of_two_runs_that_make_the_first_key_one_takes_the_key_of_the_other(
    secrets: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = KeyRing.new(NOW)

    async def another_was_quicker(block: str, value: dict[str, Any], *, overwrite: bool = True) -> bool:
        secrets[block] = made.as_value()
        return False

    monkeypatch.setattr(module, "_write", another_was_quicker)
    assert await prepare_keys("calendly-key", None, rotate_now=False, dry_run=False) == (made, None)


async def test_what_another_run_has_saved_meanwhile_is_kept(secrets: dict[str, Any]) -> None:
    mine = KeyRing.new(NOW)
    secrets["calendly-key"] = used(mine, TWO, "HOOK2").as_value()
    ring = await update_keys("calendly-key", mine, lambda keys: used(keys, ONE, "HOOK1"))
    assert ring == await load_keys("calendly-key")
    assert ring.fits("HOOK1")
    assert ring.fits("HOOK2")
    assert isinstance(ring.newest, SecretStr)
