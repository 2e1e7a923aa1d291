"""The flows of the soak test: the world that each runs in, and what must be so in the end."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final

from tests.endurance.soak_world import BLOCK, World

POLICY: Final = {"blocked_domains": ["blocked.example", "spam-corp.example"], "max_cancellations": 1_000}


class Case:
    """A flow, and the world that it runs in."""

    name: ClassVar[str]
    flow: ClassVar[str]
    runs_before: ClassVar[bool] = False
    """Whether the flow runs undisturbed once before."""

    def set_up(self, world: World) -> None:
        """Set up the world."""
        raise NotImplementedError

    def before(self, world: World) -> None:
        """Change the world before the run that may be killed, and after the undisturbed run."""

    def parameters(self, world: World) -> dict[str, Any]:
        """Return the parameters of the flow."""
        raise NotImplementedError

    def meanwhile(self, world: World) -> None:
        """Change the world after the run that may be killed, and before the last one."""

    def outcome(self, world: World) -> dict[str, Any]:
        """Return what there is in the end, in terms that are the same in each world."""
        raise NotImplementedError

    def violations(self, world: World, outcome: dict[str, Any]) -> list[str]:
        """Say what must never be so, whatever the outcome of the undisturbed runs was."""
        raise NotImplementedError


class Cancel(Case):
    """Events of an organization, some with an invitee from a blocked domain, and one that is booked meanwhile."""

    name = "cancel-blocked-domains"
    flow = "cancel-blocked-domains"

    def __init__(self) -> None:
        self._now = datetime.now(UTC)

    def set_up(self, world: World) -> None:
        world.reset(events=60, invitees=120, now=self._in(0))
        world.sandbox("/clock", {"frozen": True})
        for number in range(20):
            domain = ("blocked.example", "shop.example")[number % 2]
            world.book(f"guest{number}", domain, uuid=f"GUEST{number:011}", start_time=self._in(3 + number))

    def parameters(self, world: World) -> dict[str, Any]:
        return {"policy": {**POLICY, "scope": "organization", "starting_at": self._in(1)}, "dry_run": False}

    def meanwhile(self, world: World) -> None:
        world.book("meanwhile", "blocked.example", uuid=f"{'MEANWHILE':0<16}", start_time=self._in(5))

    def _in(self, days: int) -> str:
        return (self._now + timedelta(days=days)).isoformat()

    def outcome(self, world: World) -> dict[str, Any]:
        state = world.state()
        return {
            "canceled by the flow": sorted(
                (event["uri"], event["cancellation"]["reason"]) for event in state["canceled_by_api"]
            ),
            "all events": sorted(state["events"].items()),
            "cancellations that took effect": world.sandbox("/stats")["writes"].get("cancellation", 0),
        }

    def violations(self, world: World, outcome: dict[str, Any]) -> list[str]:
        canceled = {uri.rpartition("/")[2] for uri, _ in outcome["canceled by the flow"]}
        in_artifacts: set[str] = set()
        for table in world.artifacts("cancel-blocked-domains-decisions"):
            in_artifacts |= {
                row["event"]
                for row in json.loads(table)
                if row["status"].startswith(("about to be canceled", "canceled"))
            }
        return _only(
            ("fewer than 10 events canceled", len(canceled) < 10),
            ("an event canceled twice", outcome["cancellations that took effect"] != len(canceled)),
            (f"canceled, and in no artifact: {sorted(canceled - in_artifacts)}", not canceled <= in_artifacts),
        )


class Screen(Case):
    """A booking from a blocked domain among others."""

    name = "screen-booking"
    flow = "screen-booking"

    def set_up(self, world: World) -> None:
        world.reset(events=0)
        for name in ("ann", "ben"):
            world.book(name)
        self._invitee = world.book("eve", "blocked.example")

    def parameters(self, world: World) -> dict[str, Any]:
        return {"invitee": self._invitee, "policy": POLICY, "dry_run": False}

    def outcome(self, world: World) -> dict[str, Any]:
        state = world.state()
        return {
            "canceled by the flow": [
                world.people[uri] for each in state["canceled_by_api"] for uri in each["invitees"]
            ],
            "events that are active": state["active_events"],
            "cancellations that took effect": world.sandbox("/stats")["writes"].get("cancellation", 0),
        }

    def violations(self, world: World, outcome: dict[str, Any]) -> list[str]:
        event = self._invitee.split("/")[-3]
        tables = [json.loads(each) for each in world.artifacts("screen-booking-decisions")]
        return _only(
            ("not just the one event canceled once", list(outcome.values())[::2] != [["eve"], 1]),
            ("no artifact of the cancellation", not any(row["event"] == event for table in tables for row in table)),
        )


class Webhook(Case):
    """There is no subscription yet."""

    name = "webhook, created"
    flow = "ensure-webhook-subscription"
    keys: ClassVar[int] = 1

    def set_up(self, world: World) -> None:
        world.reset(events=0)

    def parameters(self, world: World) -> dict[str, Any]:
        return {"subscription": {"callback_url": world.listener.url, "signing_key_block": BLOCK}}

    def meanwhile(self, world: World) -> None:
        if world.hooks():  # before there is a first subscription, nothing is missed
            world.book("meanwhile")

    def outcome(self, world: World) -> dict[str, Any]:
        """Return what there is; a last booking shows what is delivered now."""
        world.book("last")
        world.sandbox("/deliveries?wait=30")
        block = world.block()
        ring = block["data"]["value"] if block else {"keys": [], "subscriptions": {}}
        (memory,) = world.states()
        hooks, delivered = world.hooks(), world.listener.delivered(list(world.people)[-1])
        in_prefect = " ".join(world.events())
        self._missing = [
            who
            for uri, who in world.people.items()
            if f": {who}, " not in in_prefect
            and not any(_is_signed(*each, key) for each in world.listener.delivered(uri) for key in ring["keys"])
        ]
        own = ("callback_url", "state", "events", "scope", "organization", "user", "group", "creator")
        return {
            "subscriptions": [{name: hook[name] for name in own} for hook in hooks],
            "subscriptions of other URLs": world.state()["webhook_subscriptions"] - len(hooks),
            "keys in the block": len(ring["keys"]),
            "the block names the subscription": [each["uuid"] for each in ring["subscriptions"].values()]
            == [_uuid(hook) for hook in hooks],
            "the state names the subscription": [memory["subscription"]] == [_uuid(hook) for hook in hooks],
            "the gap that is still to be filled": memory["gap_since"],
            "signed with the newest key": [_is_signed(sign, body, ring["keys"][0]) for sign, body in delivered],
        }

    def violations(self, world: World, outcome: dict[str, Any]) -> list[str]:
        return _only(
            ("not exactly one subscription", len(outcome["subscriptions"]) != 1),
            (f"not {self.keys} keys in the block", outcome["keys in the block"] != self.keys),
            ("the block does not name the subscription", not outcome["the block names the subscription"]),
            (
                "a new booking is not delivered once, signed with the newest key",
                outcome["signed with the newest key"] != [True],
            ),
            (
                f"neither delivered with an accepted signature nor in Prefect: {', '.join(self._missing)}",
                bool(self._missing),
            ),
            ("no artifact", not world.artifacts("ensure-webhook-subscription")),
        )


class Heal(Webhook):
    """Calendly has disabled the subscription, and bookings were not delivered."""

    name = "webhook, revived"
    runs_before = True

    def before(self, world: World) -> None:
        (hook,) = world.hooks()
        world.sandbox(f"/webhook_subscriptions/{_uuid(hook)}", {"state": "disabled"})
        for name in ("ann", "ben", "cem"):
            world.book(name)

    def meanwhile(self, world: World) -> None:
        world.book("meanwhile")


class Rotate(Heal):
    """The signing key is replaced, and a booking is made between the two runs."""

    name = "webhook, key rotated"
    keys = 2

    def before(self, world: World) -> None:
        block = world.block()
        assert block is not None
        ring = block["data"]["value"]
        self._old = ring["keys"][0]
        ring["made_at"] = (datetime.fromisoformat(ring["made_at"]) - timedelta(days=1)).isoformat()
        data = {"data": {"value": ring}, "merge_existing_data": False}
        world.prefect(f"/block_documents/{block['id']}", data, "PATCH")

    def parameters(self, world: World) -> dict[str, Any]:
        return {**super().parameters(world), "rotate_key_now": True}

    def outcome(self, world: World) -> dict[str, Any]:
        block = world.block()
        return {
            **super().outcome(world),
            "the old key is accepted": bool(block and self._old in block["data"]["value"]["keys"]),
        }


class Poll(Case):
    """Bookings, a cancellation and a reschedule since the first run, and a booking between the two runs."""

    name = "poll-bookings"
    flow = "poll-bookings"
    runs_before = True

    def set_up(self, world: World) -> None:
        world.reset(events=0)

    def before(self, world: World) -> None:
        for number in range(8):
            world.book(f"guest{number}")
        canceled, moved = (uri.split("/")[-3] for uri in list(world.people)[:2])
        world.sandbox(f"/events/{canceled}/cancel", {})
        again = world.sandbox(f"/events/{moved}/reschedule", {})
        world.people[again["invitees"][0]] = "guest1 again"

    def parameters(self, world: World) -> dict[str, Any]:
        return {"polling": {"scope": "organization"}}

    def meanwhile(self, world: World) -> None:
        world.book("meanwhile")

    def outcome(self, world: World) -> dict[str, Any]:
        return {"events in Prefect": world.events(), "canceled by the flow": world.state()["canceled_by_api"]}

    def violations(self, world: World, outcome: dict[str, Any]) -> list[str]:
        events = outcome["events in Prefect"]
        text = " ".join(events)
        return _only(
            ("fewer than 10 events in Prefect", len(events) < 10),
            ("an event that is there twice", len(events) != len(set(events))),
            (
                "a booking is missing",
                not all(f"invitee.created: {who}, " in text for who in world.people.values()),
            ),
            ("no artifact", not world.artifacts(self.flow)),
        )


class Reconcile(Poll):
    """The same half an hour ago, and Prefect has no event of it."""

    name = "reconcile-bookings"
    flow = "reconcile-bookings"
    runs_before = False

    def set_up(self, world: World) -> None:
        now = datetime.now(UTC)
        world.reset(events=0, now=(now - timedelta(minutes=30)).isoformat())
        super().before(world)
        world.sandbox("/clock", {"now": now.isoformat()})

    def before(self, world: World) -> None:
        pass

    def parameters(self, world: World) -> dict[str, Any]:
        return {"window": {"scope": "organization", "hours": 1}}

    def meanwhile(self, world: World) -> None:
        pass  # what is so new is not compared yet


CASES: Final = (Cancel, Screen, Webhook, Heal, Rotate, Poll, Reconcile)


def _only(*checks: tuple[str, bool]) -> list[str]:
    """Return the texts of what is true."""
    return [text for text, true in checks if true]


def _uuid(resource: dict[str, Any]) -> str:
    return str(resource["uri"]).rpartition("/")[2]


def _is_signed(header: str, body: bytes, key: str) -> bool:
    """Say whether a delivery is signed with a key; computed here, not by the package."""
    parts = dict(part.split("=", 1) for part in header.split(","))
    digest = hmac.new(key.encode(), f"{parts['t']}.".encode() + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(digest, parts["v1"])
