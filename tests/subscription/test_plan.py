"""What is planned: exactly one subscription of a URL is left, and no other one is touched."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_calendly.subscription.plan import Plan, make_plan
from prefect_calendly.subscription.spec import SubscriptionSpec
from prefect_calendly.webhook_subscriptions import WebhookSubscription
from tests.subscription.examples import ACCOUNT, API, SEEDED_URL, URL, USER, hook


def planned(found: list[WebhookSubscription], **members: Any) -> Plan:
    return make_plan(found, SubscriptionSpec(callback_url=URL, **members), ACCOUNT)


def test_none_of_the_url_is_created_whatever_else_there_is() -> None:
    other = hook(callback_url="https://hooks.example.com/other")
    assert planned([]).outcome == planned([other]).outcome == "created"
    assert planned([other]).delete == ()


def test_an_active_one_that_fits_is_kept_in_whatever_order_its_events_are() -> None:
    fitting = hook(events=("invitee.canceled", "invitee.created"))
    assert planned([fitting]) == Plan("unchanged", fitting, (), "it is as it should be")


def test_a_disabled_one_is_revived() -> None:
    disabled = hook(state="disabled")
    assert planned([disabled]).outcome == "revived"
    assert planned([disabled]).delete == (disabled,)


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ({"events": ("invitee.created",)}, "it lacked invitee.canceled"),
        ({"events": ("invitee.created", "invitee.canceled", "contact.new")}, "it had contact.new too"),
        ({"scope": "user", "user": USER}, "its scope was user, not organization"),
        ({"organization": f"{API}/organizations/OTHER"}, "it belonged to another organization"),
        ({"scope": "user", "events": ("contact.created",), "state": "disabled"}, "its scope was user"),
    ],
)
def test_one_that_differs_is_replaced_and_the_reason_told(members: dict[str, Any], why: str) -> None:
    differing = hook(**members)
    decided = planned([differing])
    assert (decided.outcome, decided.keep, decided.delete) == ("replaced", None, (differing,))
    assert why in decided.reason


def test_one_of_another_user_or_group_is_replaced() -> None:
    mine, theirs = hook(1, scope="user", user=USER), hook(2, scope="user", user=f"{API}/users/OTHER")
    assert planned([mine], scope="user").keep == mine
    assert planned([theirs], scope="user").reason == "it belonged to another user"
    group = hook(scope="group", group=f"{API}/groups/ONE")
    assert planned([group], scope="group", group="ONE").keep == group
    assert planned([group], scope="group", group="TWO").reason == "it belonged to another group"


def test_of_several_that_fit_the_oldest_active_one_is_kept() -> None:
    dead, odd, old, new = hook(1, state="disabled"), hook(2, state="resting"), hook(3), hook(4)
    decided = planned([new, dead, old, odd])
    assert (decided.outcome, decided.keep) == ("unchanged", old)
    assert set(decided.delete) == {dead, odd, new}
    assert "3 more" in decided.reason


def test_a_state_that_calendly_may_add_is_left_alone() -> None:
    assert planned([hook(state="resting")]).outcome == "unchanged"


hooks_strategy = st.lists(
    st.builds(
        hook,
        st.integers(1, 9),
        callback_url=st.sampled_from([URL, SEEDED_URL]),
        state=st.sampled_from(["active", "disabled"]),
        events=st.lists(st.sampled_from(["invitee.created", "invitee.canceled", "contact.created"]), unique=True),
        scope=st.sampled_from(["organization", "user", "group"]),
        user=st.sampled_from([USER, f"{API}/users/OTHER"]),
    ),
    unique_by=lambda item: item.uri,
)


@given(hooks_strategy, st.sampled_from(["organization", "user"]))
def test_a_plan_leaves_exactly_one_of_the_url_and_touches_no_other(
    found: list[WebhookSubscription], scope: str
) -> None:
    decided = planned(found, scope=scope)
    same = [item for item in found if item.callback_url == URL]
    assert len(same) == len(decided.delete) + (decided.keep is not None)
    assert {item.uri for item in decided.delete} <= {item.uri for item in same}
    if decided.keep is not None:
        assert decided.keep.state == "active"
        assert decided.keep.scope == scope
        assert decided.keep not in decided.delete
        assert decided.outcome == "unchanged"
    # What delivers goes last, and the order of the listing does not matter.
    assert [item.state for item in decided.delete] == sorted((i.state for i in decided.delete), key="disabled".__ne__)
    assert planned(found[::-1], scope=scope) == decided
    # After it was carried out, nothing is left to do.
    after = [item for item in found if item not in decided.delete]
    made = [] if decided.keep else [hook(0, scope=scope, user=USER)]
    assert planned([*after, *made], scope=scope).outcome == "unchanged"
    assert planned([*after, *made], scope=scope).delete == ()
