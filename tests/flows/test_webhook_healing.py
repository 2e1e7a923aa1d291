"""A subscription that heals: keys that are made and replaced, outages that are filled, a receiver that is proven."""

import functools
import secrets
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from prefect.blocks.system import Secret
from prefect.client.orchestration import PrefectClient, get_client
from pydantic import SecretStr, ValidationError

from flows import ensure_webhook_subscription as flow_page
from flows.ensure_webhook_subscription import ensure_webhook_subscription
from prefect_calendly import CalendlyCredentials
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.subscription import apply as module
from prefect_calendly.subscription import gap, keys, probe
from prefect_calendly.subscription.gap import DeliveryState, GapNotFilledError
from prefect_calendly.subscription.keys import KeyRing
from prefect_calendly.subscription.probe import ReceiverUnreachableError
from prefect_calendly.subscription.publish import ARTIFACT_KEY
from prefect_calendly.subscription.report import SubscriptionReport
from prefect_calendly.subscription.spec import SubscriptionSpec
from prefect_calendly.webhook_subscriptions import WebhookSubscription
from prefect_calendly.webhooks.signature import verify
from tests.flows.test_ensure_webhook_subscription import hook
from tests.support import artifact
from tests.world import uuid_of

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


# Keys: the pure part


def test_a_new_key_is_due_by_age_or_by_wish_but_not_twice() -> None:
    made = KeyRing.new(NOW)
    assert not made.is_due(1, NOW + timedelta(days=9), rotate_now=True)  # it was never used
    used = made.used_by("HOOK", NOW)
    assert not used.is_due(None, NOW + timedelta(days=999), rotate_now=False)
    assert not used.is_due(90, NOW + timedelta(days=89), rotate_now=False)
    assert used.is_due(90, NOW + timedelta(days=90), rotate_now=False)
    assert not used.is_due(None, NOW + timedelta(minutes=59), rotate_now=True)
    assert used.is_due(None, NOW + timedelta(hours=1), rotate_now=True)


def test_an_old_key_is_accepted_two_days_after_the_new_one_was_used() -> None:
    old = KeyRing.new(NOW).used_by("ONE", NOW)
    both = old.renewed(NOW)
    assert both.keys[1:] == old.keys
    assert both.newest != old.newest
    assert not both.fits("ONE")
    assert both.pruned(NOW + timedelta(days=99)) == both  # no subscription has the new one yet
    used = both.used_by("TWO", NOW)
    assert used.fits("TWO")
    assert used.pruned(NOW + timedelta(hours=47)) == used
    assert used.pruned(NOW + timedelta(hours=48)).keys == used.keys[:1]


def test_what_is_saved_is_read_back_and_of_somebody_elses_key_nothing_is_assumed() -> None:
    ring = KeyRing.new(NOW).used_by("ONE", NOW).renewed(NOW)
    assert KeyRing.parse(ring.as_value()) == ring
    assert ring.newest.get_secret_value() not in repr(ring)
    for value in ("whsec-plain", {"keys": ["whsec-plain"]}):
        theirs = KeyRing.parse(value)
        assert theirs.fits("ANY")
        assert not theirs.is_due(None, NOW, rotate_now=False)
        assert theirs.is_due(999, NOW, rotate_now=False)  # of unknown age
        assert theirs.renewed(NOW).keys[1:] == theirs.keys
    for wrong in ("", " ", None, 7, [], {}, {"keys": []}, {"keys": [""]}):
        with pytest.raises(ValueError, match="it must hold"):
            KeyRing.parse(wrong)


# Gaps: the pure part


def test_the_very_first_subscription_has_nothing_to_make_up_for() -> None:
    first = gap.before_change(None, [], NOW)
    assert first.gap_since is None
    after = gap.after_change(first, hook(1), NOW)
    assert (after.subscription, after.working_until, after.gap_since) == ("HOOK1", NOW, None)


@pytest.mark.parametrize(
    ("memory", "found", "since"),
    [
        (DeliveryState(working_until=NOW - timedelta(hours=5)), [], NOW - timedelta(hours=5)),
        (DeliveryState(working_until=NOW, gap_since=NOW - timedelta(hours=9)), [], NOW - timedelta(hours=9)),
        (None, [hook(1, retry_started_at=NOW - timedelta(hours=3))], NOW - timedelta(hours=3)),
        (None, [hook(1, state="disabled", updated_at=NOW)], NOW - timedelta(days=1)),
        (None, [hook(1)], NOW),
    ],
)
def test_a_gap_begins_when_deliveries_were_last_known_to_come(
    memory: DeliveryState | None, found: list[WebhookSubscription], since: datetime
) -> None:
    assert gap.before_change(memory, found, NOW).gap_since == since


def test_while_calendly_repeats_deliveries_it_is_not_good_and_one_that_somebody_else_made_leaves_a_gap() -> None:
    memory = DeliveryState(subscription="HOOK1", working_until=NOW - timedelta(hours=1))
    failing = hook(1, retry_started_at=NOW)
    assert gap.after_change(memory, failing, NOW) == memory
    other = gap.after_change(memory, hook(2), NOW)
    assert (other.subscription, other.working_until, other.gap_since) == ("HOOK2", NOW, NOW - timedelta(hours=1))


# Parameters


@pytest.mark.parametrize("members", [{"rotate_key_after_days": 30}, {"check_receiver": True}])
def test_what_needs_a_key_says_so(members: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="needs signing_key_block"):
        SubscriptionSpec(callback_url="https://hooks.example.com/x", **members)


# Over HTTP


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch, impatient: None) -> None:
    monkeypatch.setattr(module, "PAUSES_SECONDS", (0, 0))
    monkeypatch.setattr(
        module, "ping_receiver", functools.partial(probe.ping_receiver, patience_seconds=0.5, pause_seconds=0.05)
    )


@pytest.fixture
async def prefect(prefect_server: None) -> AsyncIterator[PrefectClient]:
    async with get_client() as client:
        yield client


class Healing:
    """One subscription of a sandbox of its own, and the block of its key."""

    def __init__(self, sandbox: Sandbox, credentials: CalendlyCredentials) -> None:
        sandbox.reset(seed=secrets.randbelow(10**9))
        self.sandbox, self.credentials = sandbox, credentials
        self.block = f"key-{secrets.token_hex(4)}"
        self.url = f"https://hooks.example.com/{secrets.token_hex(8)}"

    async def run(self, *, rotate: bool = False, dry_run: bool = False, **members: Any) -> SubscriptionReport:
        members = {"callback_url": self.url, "signing_key_block": self.block, **members}
        return await ensure_webhook_subscription(self.credentials, SubscriptionSpec(**members), dry_run, rotate)

    @property
    def there(self) -> list[str]:
        listed = self.sandbox.state()["webhook_subscription_list"]
        return [uuid_of(item) for item in listed if item["callback_url"] == self.url]

    def key_of(self, subscription: str | None) -> str | None:
        assert subscription is not None
        found: str | None = self.sandbox._server._app.world.webhooks[subscription].signing_key
        return found

    async def ring(self) -> KeyRing:
        ring = await keys.load_keys(self.block)
        assert ring is not None
        return ring


@pytest.fixture
def healing(sandbox: Sandbox, credentials: CalendlyCredentials, prefect_server: None) -> Healing:
    return Healing(sandbox, credentials)


async def told(prefect: PrefectClient, event: str) -> list[tuple[str, str]]:
    """What Prefect has of a scheduled event: name and source."""
    related = {"id": [f"calendly.scheduled-event.{uuid_of(event)}"]}
    until = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    body = {"filter": {"related": related, "occurred": {"until": until}}}
    found = (await prefect.request("POST", "/events/filter", json=body)).json()["events"]
    return [(each["event"], each["resource"]["calendly.source"]) for each in found]


async def test_a_key_is_made_when_there_is_none_and_then_kept(healing: Healing) -> None:
    foreseen = await healing.run(dry_run=True)
    assert (foreseen.outcome, foreseen.signing_key) == ("created", "made")
    assert await keys.load_keys(healing.block) is None

    first = await healing.run()
    assert (first.outcome, first.signing_key, first.gap_since) == ("created", "made", None)
    key = (await healing.ring()).newest.get_secret_value()
    assert healing.key_of(first.subscription) == key
    assert len(key) >= 40

    again = await healing.run()
    assert (again.outcome, again.signing_key, again.subscription) == ("unchanged", None, first.subscription)
    page = await artifact(ARTIFACT_KEY)
    assert key not in page + again.model_dump_json()
    assert "made" in page


async def test_one_that_was_made_with_a_key_that_nobody_knows_is_replaced(healing: Healing) -> None:
    old = (await healing.run(signing_key_block=None)).subscription
    report = await healing.run()
    assert (report.outcome, report.deleted) == ("replaced", (old,))
    assert "signing key" in report.reason


async def test_a_text_that_somebody_has_saved_stays_as_it_is_until_it_is_to_be_rotated(healing: Healing) -> None:
    await Secret(value=SecretStr("whsec-of-a-person")).asave(healing.block, overwrite=True)
    first = await healing.run()
    assert healing.key_of(first.subscription) == "whsec-of-a-person"
    assert (await healing.run()).outcome == "unchanged"
    assert not (await healing.ring()).ours
    report = await healing.run(rotate=True)
    ring = await healing.ring()
    assert (report.outcome, report.signing_key) == ("replaced", "replaced")
    assert [key.get_secret_value() for key in ring.keys[1:]] == ["whsec-of-a-person"]


async def test_a_key_is_rotated_and_both_are_accepted(healing: Healing) -> None:
    first = await healing.run()
    ring = await healing.ring()
    old = ring.newest.get_secret_value()
    assert ring.made_at is not None
    await keys.save_keys(healing.block, KeyRing(ring.keys, ring.made_at - timedelta(days=31), ring.subscription))
    report = await healing.run(rotate_key_after_days=30)
    assert (report.outcome, report.signing_key, report.deleted) == ("replaced", "replaced", (first.subscription,))
    ring = await healing.ring()
    assert [healing.key_of(report.subscription), old] == [key.get_secret_value() for key in ring.keys]
    assert healing.there == [report.subscription] == [ring.subscription]
    body, now = b"{}", datetime.now(UTC)
    for key in ring.keys:
        headers = {probe.HEADER: probe.sign(body, key, now)}
        verify(headers, body, ring.keys, now)
    assert (await healing.run(rotate=True, rotate_key_after_days=30)).outcome == "unchanged"


class Killed(BaseException):
    """As if the process had died."""


@pytest.mark.parametrize("step", ["save", "before", "subscribe", "delete", "note", "settle", "fill"])
async def test_killed_at_any_step_of_a_rotation_the_next_run_ends_as_if_nothing_had_been(
    healing: Healing, prefect: PrefectClient, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    first = await healing.run()
    ring = await healing.ring()
    assert ring.made_at is not None
    old = ring.newest
    await keys.save_keys(healing.block, KeyRing(ring.keys, ring.made_at - timedelta(days=1), ring.subscription))
    place, name = {
        "save": (flow_page, "apply"),
        "before": (module, "subscribe"),
        "subscribe": (module, "delete_subscriptions"),
        "delete": (module, "_subscribe"),
        "note": (module, "save_keys"),
        "settle": (flow_page, "drop_old_keys"),
        "fill": (module, "fill_gap"),
    }[step]
    real, calls = getattr(place, name), 0

    async def killed(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls >= (2 if step == "delete" else 1):
            raise Killed
        return await real(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(place, name, killed)
        with pytest.raises(Killed):
            await healing.run(rotate=True)
    missed = healing.sandbox.add_event(invitees=[{"email": "jane@shop.example"}])
    report = await healing.run(rotate=True)
    ring = await healing.ring()
    assert healing.there == [report.subscription] == [ring.subscription]
    assert healing.key_of(report.subscription) == ring.newest.get_secret_value()
    assert old in ring.keys
    assert report.subscription != first.subscription
    assert await told(prefect, missed) == ([("calendly.invitee.created", "backfill")] if report.gap_since else [])
    if step not in ("save", "settle"):  # nothing was changed yet, or all is as it should be
        assert report.gap_since is not None


async def test_what_was_booked_while_it_was_disabled_is_told(healing: Healing, prefect: PrefectClient) -> None:
    first = await healing.run()
    assert first.subscription is not None
    healing.sandbox.set_webhook(first.subscription, state="disabled")
    missed = healing.sandbox.add_event(invitees=[{"email": "jane@shop.example"}])
    report = await healing.run()
    assert report.outcome == "revived"
    assert report.gap_since is not None
    assert report.gap_emitted is not None
    assert report.gap_emitted >= 1
    assert await told(prefect, missed) == [("calendly.invitee.created", "backfill")]
    assert "emitted now" in await artifact(ARTIFACT_KEY)
    again = await healing.run()
    assert (again.outcome, again.gap_since) == ("unchanged", None)


async def test_a_gap_that_could_not_be_filled_is_filled_by_the_next_run(
    healing: Healing, prefect: PrefectClient
) -> None:
    first = await healing.run()
    assert first.subscription is not None
    healing.sandbox.set_webhook(first.subscription, state="disabled")
    missed = healing.sandbox.add_event(invitees=[{"email": "jane@shop.example"}])
    healing.sandbox.fault("server_error", method="GET", route="/scheduled_events", times=None)
    with pytest.raises(GapNotFilledError, match="it tries again"):
        await healing.run()
    assert len(healing.there) == 1
    assert "not backfilled yet" in await artifact(ARTIFACT_KEY)
    healing.sandbox.clear_faults()
    report = await healing.run()
    assert (report.outcome, report.gap_since is not None) == ("unchanged", True)
    assert await told(prefect, missed) == [("calendly.invitee.created", "backfill")]


async def test_for_a_group_or_other_events_gaps_are_not_looked_for(healing: Healing) -> None:
    for _ in range(2):
        report = await healing.run(events=["routing_form_submission.created"])
        assert report.gap_since is None
    assert "not looked for" in await artifact(ARTIFACT_KEY)


async def test_rotating_without_a_block_is_refused_before_any_request(healing: Healing) -> None:
    healing.sandbox.reset_stats()
    with pytest.raises(ValueError, match="rotate_key_now needs signing_key_block"):
        await healing.run(rotate=True, signing_key_block=None)
    assert healing.sandbox.stats()["requests"] == 0


class Answering:
    """What stands at a callback URL."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes]] = []
        """The last one stays."""
        self.seen: list[tuple[dict[str, str], bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.seen.append((dict(self.headers), body))
                status, answer = outer.answers.pop(0) if len(outer.answers) > 1 else outer.answers[0]
                self.send_response(status)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hooks/{secrets.token_hex(8)}"
        self.thread = Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()


@pytest.fixture
def answering() -> Iterator[Answering]:
    there = Answering()
    yield there
    there.server.shutdown()
    there.thread.join()
    there.server.server_close()


async def test_a_receiver_that_takes_up_the_new_key_a_moment_later_is_proven(
    healing: Healing, answering: Answering, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    healing.url = answering.url
    answering.answers = [(503, b""), (401, b""), (200, b'{"status":"pong"}')]
    report = await healing.run(check_receiver=True)
    assert report.outcome == "created"
    headers, body = answering.seen[2]
    verify(headers, body, (await healing.ring()).keys, datetime.now(UTC))
    assert answering.url.rpartition("/")[2] not in caplog.text
    assert "answers to a signed ping" in await artifact(ARTIFACT_KEY)
    assert (await healing.run(check_receiver=True)).outcome == "unchanged"
    assert len(answering.seen) == 3  # nothing is to be subscribed, so nothing is asked


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((401, b""), "does not accept the signing key"),
        ((302, b""), "answers HTTP 302"),
        ((200, b"<html>"), "does not answer as"),
        ((404, b""), "answers HTTP 404"),
    ],
)
async def test_a_receiver_that_does_not_answer_as_it_should_stops_it_before_anything_is_changed(
    healing: Healing, answering: Answering, answer: tuple[int, bytes], said: str
) -> None:
    healing.url = answering.url
    old = (await healing.run(signing_key_block=None)).subscription
    answering.answers = [answer]
    with pytest.raises(ReceiverUnreachableError, match=said) as caught:
        await healing.run(check_receiver=True)
    assert healing.there == [old]
    assert answering.url.rpartition("/")[2] not in str(caught.value)


async def test_nobody_at_the_url_is_told_as_such(healing: Healing, answering: Answering) -> None:
    healing.url = "http://127.0.0.1:9/hooks"
    with pytest.raises(ReceiverUnreachableError, match=r"gives no answer \(ConnectError\)"):
        await healing.run(check_receiver=True)
    assert healing.there == []
