"""Keys, session URLs and addresses are looked for in whatever our flows leave when all of them have run and failed.

What is looked for was in use: it went to the sandbox, and was repeated by it. What Prefect itself makes of a run is
searched in `test_on_a_server.py`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import cloudpickle
import httpx
import pytest
from prefect.artifacts import acreate_markdown_artifact
from prefect.exceptions import ParameterTypeError

from flows.availability_digest import availability_digest
from flows.cancel_blocked_domains import cancel_blocked_domains
from flows.ensure_webhook_subscription import ensure_webhook_subscription
from flows.poll_bookings import poll_bookings
from flows.reconcile_bookings import reconcile_bookings
from flows.screen_booking import screen_booking
from prefect_calendly import CalendlyCredentials
from prefect_calendly.bookings.polling import BookingsToPoll
from prefect_calendly.bookings.reconciliation import BookingsToReconcile
from prefect_calendly.client.errors import CalendlyError
from prefect_calendly.client.pace import PROCESS_LIMITS
from prefect_calendly.client.transport import Transport
from prefect_calendly.connections import adelete_connection
from prefect_calendly.digest.request import DigestRequest
from prefect_calendly.events.emit import emit_events
from prefect_calendly.events.event import CalendlyEvent
from prefect_calendly.runs.forms import Parameters
from prefect_calendly.runs.logger import run_logger
from prefect_calendly.runs.notifications import notify
from prefect_calendly.runs.state import save_state
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.screening.policy import CancelPolicy
from prefect_calendly.subscription import apply
from prefect_calendly.subscription.spec import SubscriptionSpec
from tests.fixtures import credentials_for
from tests.inline import Inline, inlined
from tests.notifiers import Receiver
from tests.secrets.leaks import fail, show_connection
from tests.secrets.texts import (
    HOOK,
    KEY,
    NO_SIGNING_KEY,
    PERSON,
    PLANTED,
    PUBLISHED_PERSON,
    REFUSED_KEY,
    SECRETS,
    SIGNING_KEY,
    everything_logged,
    places_of_errors,
    spellings,
)
from tests.subscription.conftest import secret_blocks
from tests.support import IMPATIENT, until

PLACES = (
    *("logs", "notifications", "artifacts", "states", "events", "reports", "representations"),
    *("tracebacks", "variables in tracebacks", "variables in hidden tracebacks", "errors", "pickled errors"),
)
VARIABLES = ("variables in tracebacks", "variables in hidden tracebacks")
# rich and a debugger look at everything, what is deprecated too.
pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
every_place = pytest.mark.parametrize("place", PLACES)


class Left:
    """What the runs have left behind."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self.reports: list[Any] = []
        self.shown: list[str] = []
        self.hidden = dict(SECRETS)
        """What must not be found."""
        self.places: dict[str, str] = {}

    def note(self, logs: list[str], messages: list[dict[str, str]], inline: Inline) -> None:
        self.places = {
            "logs": "\n".join(logs),
            "notifications": "\n".join(map(str, messages)),
            "artifacts": "\n".join(f"{each.key} {each.data} {each.description}" for each in inline.artifacts),
            "states": json.dumps(inline.states),
            "events": json.dumps(list(inline.events.stored.values())),
            # As a flow's result is stored: as JSON, or as a pickle.
            "reports": "\n".join(
                f"{each!r} {each.model_dump_json()} {cloudpickle.dumps(each).decode('latin-1')}"
                for each in self.reports
            ),
            "representations": "\n".join(self.shown),
            **places_of_errors(self.errors),
        }

    def has(self, place: str, text: str) -> bool:
        """Whether a place holds a text, in clear or encoded."""
        return any(spelling in self.places[place] for spelling in spellings(text))


class Planted(Parameters):
    """A report, and a state, that leaks."""

    text: str


class Runs:
    """All flows against one sandbox."""

    def __init__(self, sandbox: Sandbox, left: Left, receiver: Receiver, blocks: dict[str, Any]) -> None:
        self.sandbox, self.left, self.receiver, self.blocks = sandbox, left, receiver, blocks
        self.credentials = credentials_for(sandbox)
        self.policy = CancelPolicy(
            blocked_domains=["leaks.example"], scope="organization", horizon_days=5, notify=receiver.block
        )
        self.request = DigestRequest(days=1, notify=receiver.block)

    async def succeeds(self, run: Awaitable[Any]) -> Any:
        self.left.reports.append(report := await run)
        return report

    async def fails(self, run: Callable[[], Awaitable[Any]], error: type[BaseException]) -> None:
        with pytest.raises(error) as caught:
            await run()
        self.left.errors.append(caught.value)
        self.sandbox.clear_faults()

    def book(self, person: str) -> str:
        start = self.sandbox.clock() + timedelta(days=2)
        body = {"start_time": start.isoformat(), "invitees": [{"email": f"{person}@leaks.example", "name": "A B"}]}
        return str(self.sandbox.control("POST", "/events", body)["invitees"][0])

    async def of_a_connection(self) -> None:
        self.sandbox.control("POST", "/connections", {"activate_after_gets": None})
        made = await show_connection(self.credentials)
        async with self.credentials.get_client() as of_gateway:
            answer = await of_gateway.request("GET", "/connections", host="connections")
        (url,) = [each["url"] for each in answer["connections"] if each["connection_id"] == made]
        self.left.hidden["session URL"] = url.partition("session_token=")[2]
        await adelete_connection(self.credentials, made)

    async def that_succeed(self) -> None:
        await self.succeeds(cancel_blocked_domains(self.credentials, self.policy, dry_run=True))
        await self.succeeds(screen_booking(self.credentials, self.book(PERSON), self.policy, dry_run=False))
        self.book(PERSON)
        await self.succeeds(cancel_blocked_domains(self.credentials, self.policy, dry_run=False))
        await self.succeeds(availability_digest(self.credentials, self.request))

    def subscription(self, **members: Any) -> SubscriptionSpec:
        url = "https://hooks.example.com/leaks"
        # Without events for the bookings that were missed: these are about people.
        return SubscriptionSpec(callback_url=url, backfill=False, notify=self.receiver.block, **members)

    async def with_signing_keys(self) -> None:
        self.blocks["leaks-given"] = SIGNING_KEY
        given = self.subscription(signing_key_block="leaks-given")
        await self.succeeds(ensure_webhook_subscription(self.credentials, given))
        hooks = self.sandbox._server._app._state.world.webhooks.values()
        assert [hook.signing_key for hook in hooks if hook.signing_key] == [SIGNING_KEY]

        words = f"No {SIGNING_KEY} of {PERSON}@leaks.example, {KEY}"
        self.sandbox.fault("permission_denied", route="/webhook_subscriptions", method="POST", message=words)
        changed = given.model_copy(update={"events": ("invitee.created",)})
        await self.fails(lambda: ensure_webhook_subscription(self.credentials, changed), CalendlyError)
        self.sandbox.fault("drop_before", route="/webhook_subscriptions", method="POST", times=None)
        await self.fails(lambda: ensure_webhook_subscription(self.credentials, changed), CalendlyError)

        self.blocks["leaks-other"] = {"keys": NO_SIGNING_KEY}
        other = self.subscription(signing_key_block="leaks-other")
        await self.fails(lambda: ensure_webhook_subscription(self.credentials, other), ValueError)

        own = self.subscription(signing_key_block="leaks-own")
        await self.succeeds(ensure_webhook_subscription(self.credentials, own, rotate_key_now=True))
        self.left.hidden["signing key made by the flow"] = self.blocks["leaks-own"]["keys"][0]

    async def that_fail(self) -> None:
        token = self.left.hidden["session URL"]
        words = f"No {KEY} for {PERSON}@leaks.example; see https://connect.maton.ai/?session_token={token}"
        digest = lambda: availability_digest(self.credentials, self.request)  # noqa: E731
        for kind in ("unauthorized_gateway", "unauthorized_calendly"):
            self.sandbox.fault(kind, message=words)
            await self.fails(digest, CalendlyError)
        refused = credentials_for(self.sandbox, api_key=REFUSED_KEY)
        await self.fails(lambda: availability_digest(refused, self.request), CalendlyError)
        for kind in ("html_502", "server_error", "drop_after", "malformed_json"):
            self.sandbox.fault(kind, times=None)
            await self.fails(digest, CalendlyError)
        self.sandbox.fault("missing_member", member="uri", route="/users/me", times=None)
        await self.fails(digest, CalendlyError)
        invitee = self.book(PERSON)
        self.sandbox.fault("server_error", method="POST", times=None)
        await self.fails(lambda: cancel_blocked_domains(self.credentials, self.policy, dry_run=False), Exception)
        self.sandbox.fault("server_error", times=None)
        await self.fails(lambda: screen_booking(self.credentials, invitee, self.policy, False), CalendlyError)
        wrong: Any = {"blocked_domains": []}
        await self.fails(lambda: screen_booking(self.credentials, invitee, wrong), ParameterTypeError)

    async def that_crash(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Two by an error that nobody foresaw, in and under the client, and one that is killed while it waits."""
        digest = lambda: availability_digest(self.credentials, self.request)  # noqa: E731
        send = httpx.AsyncHTTPTransport.handle_async_request

        async def broken(self: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
            answer = await send(self, request)
            if request.url.path.startswith("/calendly"):
                raise LookupError("deep inside")
            return answer

        def unread(*answer: Any) -> Any:
            raise LookupError("deep inside")

        with monkeypatch.context() as patch:
            patch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", broken)
            await self.fails(digest, CalendlyError)
        with monkeypatch.context() as patch:
            patch.setattr(Transport, "_read", unread)
            await self.fails(digest, LookupError)

        self.sandbox.fault("latency", seconds=60, times=None)
        before = self.sandbox.stats()["requests"]
        killed = asyncio.ensure_future(digest())
        await asyncio.to_thread(until, lambda: self.sandbox.stats()["requests"] > before)
        killed.cancel()

        async def ended() -> Any:
            return await killed

        await self.fails(ended, asyncio.CancelledError)

    async def that_publish_bookings(self) -> None:
        """They emit events about everybody who has booked: it is what they are for."""
        polling = BookingsToPoll(scope="organization", notify=self.receiver.block)
        await self.succeeds(poll_bookings(self.credentials, polling))
        self.book(PUBLISHED_PERSON)
        assert (await self.succeeds(poll_bookings(self.credentials, polling))).emitted
        window = BookingsToReconcile(scope="organization", hours=1, notify=self.receiver.block)
        await self.succeeds(reconcile_bookings(self.credentials, window))
        self.sandbox.fault("html_502", times=None)
        await self.fails(lambda: poll_bookings(self.credentials, polling), CalendlyError)
        self.sandbox.fault("malformed_json", times=None)
        await self.fails(lambda: reconcile_bookings(self.credentials, window), CalendlyError)

    async def that_leak(self) -> None:
        run_logger().debug("Leaking %s", PLANTED)
        await acreate_markdown_artifact(PLANTED, key="leaky")
        await save_state("leaky", Planted(text=PLANTED))
        resource, payload = {"prefect.resource.id": "leaky"}, {"text": PLANTED}
        await emit_events([CalendlyEvent(uuid4(), "calendly.leaky", datetime.now(UTC), resource, payload=payload)])
        await notify(self.receiver.block, "Leaky", PLANTED)
        self.left.reports.append(Planted(text=PLANTED))
        self.left.shown.append(repr(Planted(text=PLANTED)))
        await self.fails(lambda: fail(PLANTED), RuntimeError)


@pytest.fixture(scope="module")
def left() -> Left:
    """Run everything, with every logger at DEBUG."""
    left = Left()
    with (
        Sandbox(events=12, invitees=16, hosts=2, seed=5, gateway_rps=0, api_key=KEY) as sandbox,
        pytest.MonkeyPatch.context() as monkeypatch,
        everything_logged() as logs,
    ):
        inline = inlined(monkeypatch)
        monkeypatch.setattr(CalendlyCredentials, "retry", IMPATIENT)
        monkeypatch.setattr(apply, "PAUSES_SECONDS", ())
        receiver = Receiver()
        receiver.url += HOOK
        inline.blocks[receiver.block] = receiver.webhook()
        try:
            runs = Runs(sandbox, left, receiver, secret_blocks(monkeypatch))
            asyncio.run(run_all(runs, monkeypatch))
        finally:
            receiver.stop()
        left.note(logs, receiver.messages, inline)
    PROCESS_LIMITS.clear()
    return left


async def run_all(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    await runs.of_a_connection()
    await runs.that_succeed()
    await runs.with_signing_keys()
    await runs.that_fail()
    await runs.that_crash(monkeypatch)
    runs.sandbox.reset()
    await runs.that_publish_bookings()
    await runs.that_leak()
    async with runs.credentials.get_client() as of_gateway:
        shown = (runs.credentials, of_gateway, vars(of_gateway), vars(runs.credentials))
        runs.left.shown += map(repr, shown)


# The search


@every_place
def test_the_search_finds_what_a_flow_leaks(left: Left, place: str) -> None:
    assert left.has(place, PLANTED)


@every_place
def test_no_key_and_no_session_url_is_left_anywhere(left: Left, place: str) -> None:
    assert [name for name, secret in left.hidden.items() if left.has(place, secret)] == []


@pytest.mark.parametrize("place", [place for place in PLACES if place not in VARIABLES])
def test_no_address_is_left_but_in_the_events_that_are_about_people(left: Left, place: str) -> None:
    assert not left.has(place, PERSON)
    assert left.has(place, PUBLISHED_PERSON) == (place == "events")


def test_the_bookings_of_the_address_that_is_nowhere_were_dealt_with(left: Left) -> None:
    assert left.has("artifacts", "u2026@leaks.example")  # masked, in JSON
    assert left.has("logs", "***@leaks.example")


@pytest.mark.parametrize("place", ["logs", "artifacts", "errors"])
def test_the_url_of_the_notifications_is_in_no_log(left: Left, place: str) -> None:
    assert left.places["notifications"]
    assert not left.has(place, HOOK)
