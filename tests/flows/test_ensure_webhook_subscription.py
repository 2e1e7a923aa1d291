"""The webhook subscription is made as it should be, whatever is there and whatever goes wrong on the way."""

import asyncio
import logging
import re
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect import get_client
from prefect.artifacts import Artifact
from prefect.blocks.system import Secret
from prefect.exceptions import ParameterTypeError
from prefect.logging.handlers import APILogHandler
from prefect.settings import get_current_settings
from pydantic import SecretStr, ValidationError

from flows.ensure_webhook_subscription import ensure_webhook_subscription
from prefect_calendly import CalendlyCredentials
from prefect_calendly.client.errors import (
    ConflictError,
    InsufficientScopeError,
    PlanRequiredError,
    RoleRequiredError,
    ServerError,
)
from prefect_calendly.runs.notifications import FAILED_KEY
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.subscription import apply as module
from prefect_calendly.subscription.apply import SubscriptionMissingError
from prefect_calendly.subscription.plan import Plan, make_plan
from prefect_calendly.subscription.publish import ARTIFACT_KEY
from prefect_calendly.subscription.report import SubscriptionReport
from prefect_calendly.subscription.spec import SubscriptionSpec
from prefect_calendly.webhook_subscriptions import WebhookSubscription
from tests.conftest import credentials_for
from tests.notifiers import RECORDER, Receiver
from tests.support import form_errors

API = "https://api.calendly.com"
USER, ORGANIZATION = f"{API}/users/AAAAAAAAAAAAAAAA", f"{API}/organizations/BBBBBBBBBBBBBBBB"
SEEDED, SEEDED_URL = "GGGGGGGGGGGGGGGG", "https://example.com/webhook"
URL = "https://hooks.example.com/calendly?token=t0ken-of-the-url"
HIDDEN = "t0ken-of-the-url"
HOOKS = "/webhook_subscriptions"
SECOND_CONNECTION = "5f0d4c1e-8a53-4b6e-9f0e-2d6a7f3c9b11"


# The pure part: what is planned


def hook(number: int = 1, **members: Any) -> WebhookSubscription:
    made = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=number)
    values: dict[str, Any] = {
        "uri": f"{API}{HOOKS}/HOOK{number}",
        "callback_url": URL,
        "created_at": made,
        "updated_at": made,
        "state": "active",
        "events": ("invitee.created", "invitee.canceled"),
        "scope": "organization",
        "organization": ORGANIZATION,
    }
    return WebhookSubscription.model_validate({**values, **members})


def planned(found: list[WebhookSubscription], **members: Any) -> Plan:
    return make_plan(found, SubscriptionSpec(callback_url=URL, **members), USER, ORGANIZATION)


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
        ({"events": ("invitee.created",)}, "it lacks invitee.canceled"),
        ({"events": ("invitee.created", "invitee.canceled", "contact.new")}, "it has contact.new too"),
        ({"scope": "user", "user": USER}, "its scope is user, not organization"),
        ({"organization": f"{API}/organizations/OTHER"}, "it belongs to another organization"),
        ({"scope": "user", "events": ("contact.created",), "state": "disabled"}, "its scope is user"),
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
    assert planned([theirs], scope="user").reason == "it belongs to another user"
    group = hook(scope="group", group=f"{API}/groups/ONE")
    assert planned([group], scope="group", group="ONE").keep == group
    assert planned([group], scope="group", group="TWO").reason == "it belongs to another group"


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


# Parameters


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"callback_url": "http://hooks.example.com/x"}, "callback_url"),
        ({"callback_url": "https://user:pw@hooks.example.com/x"}, "callback_url"),
        ({"events": ["invitee.invented"]}, "events.0"),
        ({"events": []}, "events"),
        ({"events": ["meeting_recap.created"], "scope": "organization"}, "events"),
        ({"events": ["routing_form_submission.created"], "scope": "user"}, "events"),
        ({"scope": "planet"}, "scope"),
        ({"scope": "group"}, "group"),
        ({"group": "SOMEGROUP"}, "group"),
        ({"scope": "group", "group": f"{API}/users/AAAA"}, "group"),
        ({"signing_key_block": "S3cr3t Key!"}, "signing_key_block"),
        ({"notify": "not a reference"}, "notify"),
        ({"evnets": ["invitee.created"]}, "evnets"),
    ],
)
def test_a_bad_field_is_refused_by_its_name_without_its_value(members: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        SubscriptionSpec.model_validate({"callback_url": URL, **members})
    assert [".".join(map(str, error["loc"])) for error in caught.value.errors()] == [field]
    assert "input_value" not in str(caught.value)
    assert HIDDEN not in str(caught.value)
    assert "S3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    "bad", [{"callback_url": "http://x.example"}, {"callback_url": URL, "event": ["invitee.created"]}]
)
async def test_a_run_with_a_bad_field_sends_no_request(
    bad: dict[str, Any], prefect_server: None, sandbox: Sandbox, credentials: CalendlyCredentials
) -> None:
    with pytest.raises(ParameterTypeError, match=r"subscription\.(callback_url|event)"):
        await ensure_webhook_subscription(credentials, bad)  # type: ignore[arg-type]
    assert sandbox.stats()["requests"] == 0


def test_the_form_has_help_and_a_position_for_every_field_and_selects_for_names() -> None:
    properties = SubscriptionSpec.model_json_schema()["properties"]
    assert sorted(item["position"] for item in properties.values()) == list(range(len(properties)))
    assert all(item["description"].endswith(".") for item in properties.values())
    assert "invitee_no_show.created" in properties["events"]["items"]["enum"]
    assert properties["scope"]["enum"] == ["organization", "user", "group"]
    assert not any("anyOf" in item or item.get("default", "") is None for item in properties.values())


@pytest.mark.parametrize(
    ("entered", "said"),
    [
        ({"callback_url": "http://hooks.example.com/x"}, "use a URL that begins with https"),
        ({"callback_url": "https://hooks.example.com/#x"}, "use a URL that begins with https"),
        ({"events": ["invitee.invented"]}, "is not one of ['invitee.created', "),
        ({"events": []}, "should be non-empty"),
        ({"scope": "planet"}, "is not one of ['organization', 'user', 'group']"),
        ({"signing_key_block": "S3cr3t Key!"}, "use the name of a Secret block, such as calendly-key"),
        ({"notify": "not a reference"}, "use type/name, such as slack-webhook/ops"),
    ],
)
def test_the_form_refuses_a_bad_entry_and_says_what_is_wanted(entered: dict[str, Any], said: str) -> None:
    [message] = form_errors(SubscriptionSpec, **{"callback_url": URL, **entered})
    assert said in message


@pytest.mark.parametrize(
    "entered", [{}, {"group": "", "signing_key_block": "", "notify": ""}, {"callback_url": f" {URL} "}]
)
def test_the_form_lets_through_what_the_flow_takes(entered: dict[str, Any]) -> None:
    entered = {"callback_url": URL, **entered}
    assert form_errors(SubscriptionSpec, **entered) == []
    assert SubscriptionSpec.model_validate(entered) == SubscriptionSpec(callback_url=URL)


def test_a_url_is_shown_by_host_and_hash_only() -> None:
    one, two = SubscriptionSpec(callback_url=URL), SubscriptionSpec(callback_url=URL + "x")
    assert one.masked_url.startswith("https://hooks.example.com/… (sha256 ")
    assert one.masked_url != two.masked_url


# Over HTTP


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch, impatient: None) -> None:
    monkeypatch.setattr(module, "PAUSES_SECONDS", (0, 0, 0, 0))


@pytest.fixture
def run_logs(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What flow and task runs log: Prefect's loggers do not hand on to pytest's by themselves."""
    loggers = [logging.getLogger(name) for name in ("prefect.flow_runs", "prefect.task_runs", "prefect.engine")]
    for logger in loggers:
        logger.addHandler(caplog.handler)
    yield caplog
    for logger in loggers:
        logger.removeHandler(caplog.handler)


def there(sandbox: Sandbox, url: str = URL) -> list[dict[str, Any]]:
    return [item for item in sandbox.state()["webhook_subscription_list"] if item["callback_url"] == url]


def uuid(item: dict[str, Any]) -> str:
    return str(item["uri"]).rpartition("/")[2]


async def subscribed(credentials: CalendlyCredentials, **members: Any) -> str:
    """Make a subscription without the flow; its uuid."""
    body = {"url": URL, "events": ["invitee.created", "invitee.canceled"], "organization": ORGANIZATION}
    async with credentials.get_client() as client:
        answer = await client.request("POST", HOOKS, json={**body, "scope": "organization", **members})
    return uuid(answer["resource"])


async def ensured(credentials: CalendlyCredentials, *, dry_run: bool = False, **members: Any) -> SubscriptionReport:
    # What has to do with gaps and keys is in test_webhook_healing.py.
    spec = SubscriptionSpec(**{"callback_url": URL, "backfill": False, **members})
    return await ensure_webhook_subscription(credentials, spec, dry_run)


async def artifact() -> str:
    """What one reads on the page: without the invisible places where words may break."""
    return (await page()).replace("\u200b", "")


async def page(key: str = ARTIFACT_KEY) -> str:
    found = await Artifact.aget(key)
    assert found is not None
    return str(found.data)


@pytest.mark.usefixtures("prefect_server")
class TestOutcomes:
    async def test_created_then_unchanged_without_a_write(
        self, sandbox: Sandbox, credentials: CalendlyCredentials
    ) -> None:
        first = await ensured(credentials)
        (made,) = there(sandbox)
        assert (first.outcome, first.subscription, first.deleted) == ("created", uuid(made), ())
        assert made["events"] == ["invitee.created", "invitee.canceled"]
        assert (made["scope"], made["user"], made["organization"]) == ("organization", None, ORGANIZATION)
        assert sandbox.stats()["unknown_parameters"] == []

        sandbox.reset_stats()
        second = await ensured(credentials)
        assert (second.outcome, second.subscription) == ("unchanged", first.subscription)
        assert sandbox.stats()["writes"] == {}
        assert sandbox.stats()["by_route"].get(f"POST {HOOKS}", 0) == 0
        assert second.requests == sandbox.stats()["requests"] == 3
        assert second.seconds > 0

    async def test_other_subscriptions_are_left_alone(self, sandbox: Sandbox, credentials: CalendlyCredentials) -> None:
        before = there(sandbox, SEEDED_URL)
        await ensured(credentials)
        assert there(sandbox, SEEDED_URL) == before

    async def test_a_disabled_one_is_revived(self, sandbox: Sandbox, credentials: CalendlyCredentials) -> None:
        old = await subscribed(credentials)
        sandbox.set_webhook(old, state="disabled")
        report = await ensured(credentials)
        (made,) = there(sandbox)
        assert (report.outcome, report.deleted, made["state"]) == ("revived", (old,), "active")
        assert report.subscription == uuid(made) != old

    async def test_one_with_other_events_is_replaced(self, sandbox: Sandbox, credentials: CalendlyCredentials) -> None:
        old = await subscribed(credentials)
        report = await ensured(credentials, events=["invitee.created", "invitee_no_show.created"])
        (made,) = there(sandbox)
        assert (report.outcome, report.deleted) == ("replaced", (old,))
        assert made["events"] == ["invitee.created", "invitee_no_show.created"]
        assert "invitee_no_show.created" in report.reason

    async def test_one_with_another_scope_is_replaced(self, sandbox: Sandbox, credentials: CalendlyCredentials) -> None:
        old = await subscribed(credentials)
        report = await ensured(credentials, scope="user", events=["invitee.created", "meeting_recap.created"])
        (made,) = there(sandbox)
        assert (report.outcome, report.deleted) == ("replaced", (old,))
        assert (made["scope"], made["user"]) == ("user", USER)
        back = await ensured(credentials)
        assert (back.outcome, back.deleted) == ("replaced", (uuid(made),))

    async def test_a_group_can_be_subscribed(self, sandbox: Sandbox, credentials: CalendlyCredentials) -> None:
        async with credentials.get_client() as client:
            groups = await client.request("GET", "/groups", params={"organization": ORGANIZATION})
        group = groups["collection"][0]["uri"]
        assert (await ensured(credentials, scope="group", group=group)).outcome == "created"
        assert (await ensured(credentials, scope="group", group=group)).outcome == "unchanged"
        assert there(sandbox)[0]["group"] == group

    async def test_an_old_mess_ends_as_one(self, sandbox: Sandbox, credentials: CalendlyCredentials) -> None:
        keep, extra = await subscribed(credentials), await subscribed(credentials, url=URL + "2")
        # The sandbox, like Calendly, refuses two of one URL: let the listing show the second under the first's.
        sandbox.fault("enum_value", method="GET", route=HOOKS, member="callback_url", value=URL, item=2)
        report = await ensured(credentials)
        assert (report.outcome, report.subscription, report.deleted) == ("unchanged", keep, (extra,))
        assert [uuid(item) for item in there(sandbox)] == [keep]
        assert there(sandbox, URL + "2") == []

    async def test_a_user_who_is_no_admin_can_subscribe_for_themselves(self, sandbox: Sandbox) -> None:
        credentials = as_plain_user(sandbox)
        assert (await ensured(credentials, scope="user")).outcome == "created"
        assert (await ensured(credentials, scope="user")).outcome == "unchanged"

    async def test_a_user_who_is_no_admin_is_told_so_for_the_organization(self, sandbox: Sandbox) -> None:
        credentials = as_plain_user(sandbox)
        with pytest.raises(RoleRequiredError, match="owner or admin"):
            await ensured(credentials)
        assert there(sandbox) == []
        with pytest.raises(RoleRequiredError):
            await ensured(credentials, dry_run=True)
        assert "Dry run failed" in await artifact()

    @pytest.mark.parametrize("situation", ["none", "fitting", "disabled", "differing"])
    async def test_a_dry_run_says_what_it_would_do_and_changes_nothing(
        self, sandbox: Sandbox, credentials: CalendlyCredentials, situation: str
    ) -> None:
        old = None
        if situation != "none":
            events = ["invitee.created"] if situation == "differing" else ["invitee.created", "invitee.canceled"]
            old = await subscribed(credentials, events=events)
            if situation == "disabled":
                sandbox.set_webhook(old, state="disabled")
        before = sandbox.state()["webhook_subscription_list"]
        sandbox.reset_stats()
        report = await ensured(credentials, dry_run=True)
        outcomes = {"none": "created", "fitting": "unchanged", "disabled": "revived", "differing": "replaced"}
        assert (report.outcome, report.dry_run) == (outcomes[situation], True)
        assert report.subscription == (old if situation == "fitting" else None)
        assert report.deleted == ((old,) if situation in ("disabled", "differing") else ())
        assert sandbox.state()["webhook_subscription_list"] == before
        assert {route.partition(" ")[0] for route in sandbox.stats()["by_route"]} == {"GET"}
        text = await artifact()
        assert "Dry run, nothing was changed" in text
        assert outcomes[situation] in text


def as_plain_user(sandbox: Sandbox) -> CalendlyCredentials:
    user = sandbox.add_user("Paula Plain", email="paula@example.com")["uri"]
    sandbox.set_connection(SECOND_CONNECTION, user=user)
    return credentials_for(sandbox, connection_id=SECOND_CONNECTION)


@pytest.mark.usefixtures("prefect_server")
class TestRaces:
    @pytest.mark.parametrize("situation", ["none", "differing"])
    async def test_two_runs_at_once_end_with_one_subscription(
        self, sandbox: Sandbox, credentials: CalendlyCredentials, situation: str
    ) -> None:
        sandbox.reset(latency_ms=20)
        if situation != "none":
            await subscribed(
                credentials,
                events=["invitee.created"] if situation == "differing" else ["invitee.created", "invitee.canceled"],
            )
        reports = await asyncio.gather(ensured(credentials), ensured(credentials))
        (made,) = there(sandbox)
        assert made["state"] == "active"
        assert set(made["events"]) == {"invitee.created", "invitee.canceled"}
        assert {report.subscription for report in reports} == {uuid(made)}
        changed = {"none": "created", "differing": "replaced"}[situation]
        assert {report.outcome for report in reports} <= {"unchanged", changed}
        assert changed in {report.outcome for report in reports}

    async def test_a_listing_that_is_behind_ends_as_unchanged(
        self, sandbox: Sandbox, credentials: CalendlyCredentials
    ) -> None:
        old = await subscribed(credentials)
        hide_once(sandbox)
        report = await ensured(credentials)
        assert (report.outcome, report.subscription, report.deleted) == ("unchanged", old, ())
        assert [uuid(item) for item in there(sandbox)] == [old]

    async def test_a_listing_that_is_behind_ends_as_replaced(
        self, sandbox: Sandbox, credentials: CalendlyCredentials
    ) -> None:
        old = await subscribed(credentials, events=["invitee.created"])
        hide_once(sandbox)
        report = await ensured(credentials)
        assert (report.outcome, report.deleted) == ("replaced", (old,))
        assert [uuid(item) for item in there(sandbox)] == [report.subscription]

    async def test_one_that_is_not_found_when_it_is_to_be_deleted_is_looked_for_again(
        self, sandbox: Sandbox, credentials: CalendlyCredentials
    ) -> None:
        old = await subscribed(credentials, events=["invitee.created"])
        sandbox.fault("not_found", method="DELETE")
        report = await ensured(credentials)
        assert (report.outcome, report.deleted) == ("replaced", (old,))
        assert [uuid(item) for item in there(sandbox)] == [report.subscription]

    async def test_a_url_that_is_taken_where_nobody_may_look_is_told_and_nothing_is_deleted(
        self, sandbox: Sandbox, credentials: CalendlyCredentials
    ) -> None:
        other = sandbox.add_user("Olga Other", email="olga@example.com")["uri"]
        old = await subscribed(credentials, scope="user", user=other)
        with pytest.raises(ConflictError, match="another user") as caught:
            await ensured(credentials)
        assert [uuid(item) for item in there(sandbox)] == [old]
        assert HIDDEN not in str(caught.value)
        assert sandbox.stats()["by_route"][f"POST {HOOKS}"] <= 6


def hide_once(sandbox: Sandbox) -> None:
    """Let the next listing lack the URL, as one that is served from behind would."""
    sandbox.fault("enum_value", method="GET", route=HOOKS, member="callback_url", value="https://other.example/")


@pytest.mark.usefixtures("prefect_server")
class TestFailures:
    @pytest.mark.parametrize("times", [1, 10])
    async def test_a_failure_between_delete_and_create_is_overcome(
        self, sandbox: Sandbox, credentials: CalendlyCredentials, times: int
    ) -> None:
        old = await subscribed(credentials, events=["invitee.created"])
        sandbox.fault("server_error", method="POST", route=HOOKS, skip=1, times=times)
        report = await ensured(credentials)
        assert (report.outcome, report.deleted) == ("replaced", (old,))
        assert [uuid(item) for item in there(sandbox)] == [report.subscription]
        assert "it lacks invitee.canceled" in report.reason

    @pytest.mark.parametrize("kind", ["server_error", "plan", "drop_before"])
    async def test_a_failure_between_delete_and_create_that_stays_is_raised_loudly(
        self,
        sandbox: Sandbox,
        credentials: CalendlyCredentials,
        kind: str,
        run_logs: pytest.LogCaptureFixture,
        recorder: list[tuple[str | None, str]],
    ) -> None:
        old = await subscribed(credentials, events=["invitee.created"])
        sandbox.fault(kind, method="POST", route=HOOKS, skip=1, times=None)
        with pytest.raises(SubscriptionMissingError) as caught:
            await ensured(credentials, notify=RECORDER)
        assert there(sandbox) == []
        ((subject, message),) = recorder
        assert subject == "Calendly webhook subscription failed"
        for text in (str(caught.value), await artifact(), message, run_logs.text):
            plain = text.replace("\\", "")
            assert "NOTHING IS DELIVERED to https://hooks.example.com/…" in plain
            assert old in plain
            assert "invitee.created, invitee.canceled (scope organization)" in plain
            assert "run this flow again" in plain
            assert HIDDEN not in plain

        sandbox.clear_faults()
        assert (await ensured(credentials)).outcome == "created"
        assert len(there(sandbox)) == 1

    async def test_a_refusal_that_can_be_foreseen_comes_before_anything_is_deleted(
        self, sandbox: Sandbox, credentials: CalendlyCredentials
    ) -> None:
        old = await subscribed(credentials, events=["invitee.created"])
        sandbox.fault("insufficient_scope", method="POST", route=HOOKS, required_scopes=["contacts:read"], times=None)
        with pytest.raises(InsufficientScopeError, match="contacts:read"):
            await ensured(credentials, events=["contact.created"])
        assert [uuid(item) for item in there(sandbox)] == [old]

    async def test_a_plan_without_webhooks_is_told(self, sandbox: Sandbox, credentials: CalendlyCredentials) -> None:
        sandbox.reset(plan="free")
        with pytest.raises(PlanRequiredError, match="upgrade your Calendly account"):
            await ensured(credentials)
        assert "Upgrade the Calendly plan" in await artifact()

    async def test_a_run_that_was_killed_between_delete_and_create_is_put_right_by_the_next(
        self, sandbox: Sandbox, credentials: CalendlyCredentials, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        old = await subscribed(credentials, events=["invitee.created"])
        sandbox.fault("server_error", method="POST", route=HOOKS, skip=1, times=None)
        monkeypatch.setattr(module, "PAUSES_SECONDS", (3600, 0))
        running = asyncio.create_task(ensured(credentials))
        while sandbox.stats()["faults"].get("server_error", 0) < 3:
            assert not running.done()
            await asyncio.sleep(0.02)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert there(sandbox) == []

        sandbox.clear_faults()
        report = await ensured(credentials)
        (made,) = there(sandbox)
        assert (report.outcome, report.subscription) == ("created", uuid(made))
        assert uuid(made) != old

    async def test_a_lost_answer_after_creating_makes_one(
        self, sandbox: Sandbox, credentials: CalendlyCredentials
    ) -> None:
        sandbox.fault("drop_after", method="POST", route=HOOKS)
        report = await ensured(credentials)
        assert (report.outcome, report.subscription) == ("created", uuid(there(sandbox)[0]))
        assert sandbox.stats()["writes"] == {"webhook_subscription": 1}

    async def test_a_lost_answer_after_creating_makes_one_even_if_it_cannot_be_looked_up_at_once(
        self, sandbox: Sandbox, credentials: CalendlyCredentials
    ) -> None:
        sandbox.fault("drop_after", method="POST", route=HOOKS)
        sandbox.fault("server_error", method="GET", route=HOOKS, skip=2, times=4)
        report = await ensured(credentials)
        assert (report.outcome, report.subscription) == ("created", uuid(there(sandbox)[0]))
        assert sandbox.stats()["writes"] == {"webhook_subscription": 1}

    @pytest.mark.parametrize("lookups_that_fail", [0, 4])
    async def test_a_lost_answer_after_deleting_deletes_and_makes_one(
        self, sandbox: Sandbox, credentials: CalendlyCredentials, lookups_that_fail: int
    ) -> None:
        old = await subscribed(credentials, events=["invitee.created"])
        sandbox.reset_stats()
        sandbox.fault("drop_after", method="DELETE")
        if lookups_that_fail:
            sandbox.fault("server_error", method="GET", route=f"{HOOKS}/{{uuid}}", times=lookups_that_fail)
        report = await ensured(credentials)
        assert (report.outcome, report.deleted) == ("replaced", (old,))
        assert [uuid(item) for item in there(sandbox)] == [report.subscription]
        assert sandbox.stats()["writes"] == {"webhook_subscription_deleted": 1, "webhook_subscription": 1}

    async def test_an_unconfirmed_deletion_is_told_as_such_when_nothing_more_can_be_done(
        self, sandbox: Sandbox, credentials: CalendlyCredentials, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "PAUSES_SECONDS", ())
        old = await subscribed(credentials, events=["invitee.created"])
        sandbox.fault("drop_after", method="DELETE", times=None)
        sandbox.fault("server_error", method="GET", route=f"{HOOKS}/{{uuid}}", times=None)
        with pytest.raises(SubscriptionMissingError, match=f"{old}.*The answer to a write was lost"):
            await ensured(credentials)

    async def test_a_deletion_that_fails_leaves_the_old_one_and_is_raised_as_it_is(
        self, sandbox: Sandbox, credentials: CalendlyCredentials
    ) -> None:
        old = await subscribed(credentials, events=["invitee.created"])
        sandbox.fault("server_error", method="DELETE", times=None)
        with pytest.raises(ServerError):
            await ensured(credentials)
        assert [uuid(item) for item in there(sandbox)] == [old]
        assert "failed" in await artifact()

    async def test_failing_deliveries_are_shown(self, sandbox: Sandbox, credentials: CalendlyCredentials) -> None:
        old = await subscribed(credentials)
        sandbox.set_webhook(old, retry_started_at="2026-11-20T10:00:00Z")
        assert (await ensured(credentials)).outcome == "unchanged"
        assert "2026-11-20 10:00 UTC" in (await artifact()).replace("\\", "")


@pytest.mark.usefixtures("prefect_server")
class TestSecretsAndMessages:
    KEY = "whsec-do-not-show-me-0123456789"

    async def test_the_signing_key_reaches_calendly_and_shows_nowhere(
        self, sandbox: Sandbox, credentials: CalendlyCredentials, run_logs: pytest.LogCaptureFixture
    ) -> None:
        run_logs.set_level(logging.DEBUG)
        await Secret(value=SecretStr(self.KEY)).asave("calendly-signing-key", overwrite=True)
        await subscribed(credentials, events=["invitee.created"])
        report = await ensured(credentials, signing_key_block="calendly-signing-key")
        world = sandbox._server._app.world
        assert report.subscription is not None
        assert world.webhooks[report.subscription].signing_key == self.KEY

        # And with a failure, whose traceback is logged.
        sandbox.fault("plan", method="POST", route=HOOKS, times=None)
        with pytest.raises(PlanRequiredError) as caught:
            await ensured(credentials, signing_key_block="calendly-signing-key", events=["contact.created"])

        await APILogHandler.aflush()
        shown = report.model_dump_json() + str(caught.value) + run_logs.text + await artifact()
        assert "hooks.example.com/…" in shown
        assert self.KEY not in shown
        assert HIDDEN not in shown
        assert sandbox.api_key not in shown

        rows = database_rows()
        assert any(report.subscription in row for row in rows["artifact"])
        assert any("hooks.example.com" in row for row in rows["log"])
        for table, contents in rows.items():
            for row in contents:
                assert self.KEY not in row, table
                if table != "flow_run":  # its parameters are what the user filled in, the URL among them
                    assert HIDDEN not in row, table

    @pytest.mark.parametrize("value", ["", "  "])
    async def test_an_empty_signing_key_is_refused_before_any_request(
        self, sandbox: Sandbox, credentials: CalendlyCredentials, value: str
    ) -> None:
        await Secret(value=SecretStr(value)).asave("empty-key", overwrite=True)
        with pytest.raises(ValueError, match=r"signing_key_block.*'empty-key'.*not empty"):
            await ensured(credentials, signing_key_block="empty-key")
        assert sandbox.stats()["requests"] == 0

    async def test_a_message_is_sent_for_changes_and_failures_only(
        self, sandbox: Sandbox, credentials: CalendlyCredentials, recorder: list[tuple[str | None, str]]
    ) -> None:
        await ensured(credentials, notify=RECORDER, dry_run=True)
        await ensured(credentials, notify=RECORDER)
        await ensured(credentials, notify=RECORDER)
        await ensured(credentials, notify=RECORDER, scope="user")
        sandbox.set_webhook(uuid(there(sandbox)[0]), state="disabled")
        await ensured(credentials, notify=RECORDER, scope="user")
        sandbox.fault("plan", method="POST", route=HOOKS)
        with pytest.raises(PlanRequiredError):
            await ensured(credentials, notify=RECORDER)
        subjects = [subject for subject, _ in recorder]
        assert subjects == [
            f"Calendly webhook subscription {word}" for word in ("created", "replaced", "revived", "failed")
        ]
        assert all(HIDDEN not in body for _, body in recorder)

    async def test_a_dry_run_that_fails_is_told_too(
        self, sandbox: Sandbox, credentials: CalendlyCredentials, recorder: list[tuple[str | None, str]]
    ) -> None:
        sandbox.fault("plan", method="GET", route=HOOKS, times=None)
        with pytest.raises(PlanRequiredError):
            await ensured(credentials, notify=RECORDER, dry_run=True)
        ((subject, message),) = recorder
        assert subject == "Calendly webhook subscription failed"
        assert message.startswith("Dry run failed: ")

    async def test_revived_and_failed_reach_a_saved_webhook_in_one_message_each(
        self, sandbox: Sandbox, credentials: CalendlyCredentials, receiver: Receiver
    ) -> None:
        old = await subscribed(credentials)
        sandbox.set_webhook(old, state="disabled")
        await ensured(credentials, notify=receiver.block)
        sandbox.fault("plan", method="POST", route=HOOKS)
        with pytest.raises(PlanRequiredError):
            await ensured(credentials, notify=receiver.block, scope="user")
        revived, failed = receiver.messages
        assert revived["subject"] == "Calendly webhook subscription revived"
        assert revived["body"].startswith("Revived: the webhook subscription of https://hooks.example.com/… (sha256 ")
        assert "Calendly disabled it, because deliveries had failed for 24 hours." in revived["body"]
        assert failed["subject"] == "Calendly webhook subscription failed"
        assert "Upgrade the Calendly plan" in failed["body"]
        for message in (revived, failed):
            words, _, link = message["body"].partition("\n")
            assert len(words) < 500
            assert "/v2/runs/flow-run/" in link
            assert HIDDEN not in message["body"]

    @pytest.mark.parametrize(("status", "error"), [(500, "HTTPStatusError"), (None, "ConnectError")])
    async def test_a_message_that_cannot_be_sent_fails_nothing_and_can_be_seen(
        self,
        sandbox: Sandbox,
        credentials: CalendlyCredentials,
        receiver: Receiver,
        run_logs: pytest.LogCaptureFixture,
        status: int | None,
        error: str,
    ) -> None:
        if status is None:
            receiver.stop()
        else:
            receiver.status = status
        report = await ensured(credentials, notify=receiver.block)
        assert (report.outcome, len(there(sandbox))) == ("created", 1)
        assert f"The notification through custom-webhook/ops failed ({error})." in run_logs.text
        shown = (await page(FAILED_KEY)).replace("\\", "")
        assert f"({error})" in shown
        assert "Calendly webhook subscription created" in shown
        for secret in (receiver.url, receiver.secret, HIDDEN):
            assert secret not in shown + run_logs.text

    async def test_a_notifier_that_is_not_there_is_named_before_any_request(
        self, sandbox: Sandbox, credentials: CalendlyCredentials
    ) -> None:
        with pytest.raises(ValueError, match="notify: there is no saved block 'slack-webhook/nowhere'"):
            await ensured(credentials, notify="slack-webhook/nowhere")
        assert sandbox.stats()["requests"] == 0

    async def test_an_error_that_nobody_foresaw_is_told_without_its_words(
        self,
        credentials: CalendlyCredentials,
        recorder: list[tuple[str | None, str]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        async def broken(*args: Any) -> None:
            raise LookupError(f"nothing at {HIDDEN}")

        monkeypatch.setattr(module, "_attempt", broken)
        with pytest.raises(LookupError):
            await ensured(credentials, notify=RECORDER)
        ((subject, message),) = recorder
        assert subject == "Calendly webhook subscription failed"
        for text in (message, await artifact()):
            assert "LookupError; see the run's log." in text
            assert HIDDEN not in text

    async def test_the_page_makes_no_link_of_a_url_and_no_word_wider_than_a_phone(
        self, credentials: CalendlyCredentials
    ) -> None:
        host = ".".join(["a" * 60] * 4)
        await ensured(credentials, callback_url=f"https://{host}/x")
        text = await page()
        assert "://" not in text
        assert max(map(len, re.split(r"[\s\u200b]", text))) <= 33
        assert f"https://{host}/…" in text.replace("\u200b", "")

    async def test_the_artifact_tells_what_was_done_why_and_at_what_cost(
        self, sandbox: Sandbox, credentials: CalendlyCredentials
    ) -> None:
        old = await subscribed(credentials, events=["invitee.created"])
        report = await ensured(credentials)
        text = (await artifact()).replace("\\", "")
        assert "Webhook subscription: replaced" in text
        for part in (old, report.subscription, "active", "organization", "It lacks invitee.canceled."):
            assert str(part) in text
        assert f"{report.requests} requests" in text
        assert HIDDEN not in text

    async def test_a_run_is_named_after_host_and_scope(self, credentials: CalendlyCredentials) -> None:
        state = await ensure_webhook_subscription(
            credentials,
            {"callback_url": URL, "scope": "user"},  # type: ignore[arg-type]  # as the UI sends it
            return_state=True,
        )
        async with get_client() as client:
            run = await client.read_flow_run(state.state_details.flow_run_id)
        assert run.name == "webhook of hooks.example.com, scope user"


def database_rows() -> dict[str, list[str]]:
    """Every row of the Prefect database as text, by table."""
    url = str(get_current_settings().server.database.connection_url.get_secret_value())
    path = Path(url.partition(":///")[2])
    with sqlite3.connect(path) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {table: [repr(row) for row in database.execute(f"SELECT * FROM {table}")] for table in tables}
