"""Each event of a plan is canceled once, and none that has become another case meanwhile."""

from dataclasses import replace

import pytest

from prefect_calendly import CalendlyCredentials
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.screening.cancellation import CancelOutcome, cancel_events
from prefect_calendly.screening.decision import Decision
from prefect_calendly.screening.plan import Plan
from prefect_calendly.screening.report import TooManyCancellationsError
from tests.inline import Inline
from tests.screening.conftest import (
    API,
    BAD,
    CANCELLATION,
    GOOD,
    NOON,
    add_booking,
    canceled_by_api,
    everything,
    posts,
)
from tests.support import no_request
from tests.world import World, uuid_of

pytestmark = pytest.mark.usefixtures("inline")


async def outcome_of(
    credentials: CalendlyCredentials, uri: str, *, shared: bool = False, look_again: bool = False
) -> CancelOutcome:
    plan = Plan(everything(), (Decision(uri, NOON, None, "cancel", "", shared=shared),))
    outcomes = await cancel_events(credentials, plan, look_again=look_again)
    assert outcomes.keys() == {uri}
    return outcomes[uri]


async def test_an_event_that_has_begun_meanwhile_is_left_alone(
    sandbox: Sandbox, credentials: CalendlyCredentials
) -> None:
    uri = add_booking(sandbox, BAD)
    sandbox.set_clock(advance_seconds=4 * 86_400)
    assert str(await outcome_of(credentials, uri)) == "left alone: it has begun"


async def test_an_event_that_is_gone_meanwhile_is_left_alone(credentials: CalendlyCredentials) -> None:
    assert str(await outcome_of(credentials, f"{API}/scheduled_events/NOSUCHEVENT")) == "left alone: it is gone"


@pytest.mark.parametrize("shared", [True, False])
async def test_an_event_that_somebody_else_has_canceled_meanwhile_is_not_claimed(
    sandbox: Sandbox, credentials: CalendlyCredentials, world: World, shared: bool
) -> None:
    uri = add_booking(sandbox, BAD)
    world.cancel(uuid_of(uri), "I am ill")
    assert str(await outcome_of(credentials, uri, shared=shared)) == "already canceled"
    assert canceled_by_api(sandbox)[uuid_of(uri)]["cancellation"]["reason"] == "I am ill"


async def test_a_cancellation_that_is_there_already_and_cannot_be_read_is_not_claimed(
    sandbox: Sandbox, credentials: CalendlyCredentials, world: World, impatient: None
) -> None:
    uri = add_booking(sandbox, BAD)
    world.cancel(uuid_of(uri))
    sandbox.fault("server_error", method="GET", route="/scheduled_events/{uuid}", times=None)
    assert str(await outcome_of(credentials, uri)) == "already canceled"


async def test_a_group_event_that_somebody_welcome_has_booked_meanwhile_is_left_alone(
    sandbox: Sandbox, credentials: CalendlyCredentials
) -> None:
    uri = add_booking(sandbox, BAD, GOOD)
    assert str(await outcome_of(credentials, uri, shared=True)) == "left alone: others have booked it meanwhile"
    assert posts(sandbox) == 0


async def test_with_an_old_plan_an_event_that_starts_at_another_time_now_is_left_alone(
    sandbox: Sandbox, credentials: CalendlyCredentials
) -> None:
    uri = add_booking(sandbox, BAD)
    assert str(await outcome_of(credentials, uri, look_again=True)) == "left alone: moved meanwhile"
    assert posts(sandbox) == 0


async def test_an_answer_lost_after_the_cancellation_counts_once(
    sandbox: Sandbox, credentials: CalendlyCredentials, impatient: None
) -> None:
    uri = add_booking(sandbox, BAD)
    sandbox.fault("drop_after", method="POST", route=CANCELLATION)
    assert str(await outcome_of(credentials, uri)) == "canceled"
    assert posts(sandbox) == sandbox.stats()["writes"]["cancellation"] == 1


async def test_the_cap_holds_for_whoever_calls_it_and_nothing_to_do_costs_nothing(
    sandbox: Sandbox, credentials: CalendlyCredentials
) -> None:
    decisions = tuple(Decision(add_booking(sandbox, BAD), NOON, None, "cancel", "") for _ in range(2))
    with no_request(sandbox):
        with pytest.raises(TooManyCancellationsError, match="2 events to cancel, but max_cancellations is 1"):
            await cancel_events(credentials, Plan(everything(max_cancellations=1), decisions))
        assert await cancel_events(credentials, Plan(everything(), ())) == {}
    assert (await cancel_events(credentials, Plan(everything(max_cancellations=2), decisions))).keys() == {
        decision.event for decision in decisions
    }


def test_an_outcome_reads_as_a_sentence() -> None:
    outcome = CancelOutcome("failed", "ServerError: broken")
    assert str(outcome) == "failed: ServerError: broken"
    assert str(replace(outcome, result="canceled", detail="")) == "canceled"


async def test_a_flow_of_ones_own_takes_a_few_lines(
    sandbox: Sandbox, credentials: CalendlyCredentials, inline: Inline
) -> None:
    """As the README shows it."""
    from prefect import flow

    from prefect_calendly.screening import CancelPage, CancelPolicy, CancelRun, cancel_events, scan_events

    @flow
    async def cancel_spam(credentials: CalendlyCredentials, dry_run: bool = True) -> None:
        policy = CancelPolicy(blocked_domains=["spam.example"], scope="organization", max_cancellations=10)
        run = CancelRun(await scan_events(credentials, policy), dry_run)
        page = CancelPage(run)
        await page.write()
        if not dry_run:
            run.outcomes = await cancel_events(credentials, run.plan)
            await page.write()

    uri = add_booking(sandbox, "eve@spam.example")
    await cancel_spam(credentials)
    assert canceled_by_api(sandbox) == {}
    assert inline.artifact("cancel-blocked-domains").startswith("# DRY RUN: 1 event would be canceled")
    await cancel_spam(credentials, dry_run=False)
    assert canceled_by_api(sandbox).keys() == {uuid_of(uri)}
    assert inline.artifact("cancel-blocked-domains").startswith("# 1 event canceled")
