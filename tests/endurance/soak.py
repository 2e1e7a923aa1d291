"""Each writing flow is killed with `kill -9` at random points and run again: does all end as if it had not been killed?

`make soak` runs the flows, each in a process of its own, against a sandbox and a Prefect server with SQLite. First
undisturbed; then in a world like that one again and again, and killed: while the answer to some request is held back
(what it asks for has happened by then), or at some moment of its run. Then it runs once more, and what the sandbox and
Prefect's API show is compared with what they showed after the undisturbed runs.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import hmac
import json
import os
import random
import secrets
import select
import signal
import subprocess
import sys
import tempfile
import time
from bisect import bisect_right
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any, ClassVar, Final

from deployments.local import own_environment, sandbox_command
from deployments.processes import MARK, contained, free_port
from tests.endurance.running import KEY, ROOT, FailedError, Processes, ask, say, tail

BLOCK: Final = "soak-signing-key"
POLICY: Final = {"blocked_domains": ["blocked.example", "spam-corp.example"], "max_cancellations": 1_000}
# Long enough that a moment of the run is one between requests, too.
LATENCY_MS: Final = 20
LONGEST_SECONDS: Final = 300
HELD_SECONDS: Final = 2 * LONGEST_SECONDS
LOOK_EVERY_SECONDS: Final = 0.01
METHODS: Final = (b"GET ", b"POST ", b"PUT ", b"PATCH ", b"DELETE ")


# What is there: the sandbox and Prefect, as somebody sees them who knows nothing of the flows


class Listener:
    """The far end of a webhook: keeps what is delivered."""

    def __init__(self) -> None:
        self.deliveries: list[tuple[dict[str, Any], str, bytes]] = []
        """Of each, what it says, its signature and its bytes."""
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                listener.deliveries.append((json.loads(body), self.headers["Calendly-Webhook-Signature"], body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/webhooks/calendly"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def delivered(self, invitee: str) -> list[tuple[str, bytes]]:
        """Signature and bytes of the deliveries about an invitee."""
        return [(sign, body) for said, sign, body in self.deliveries if said["payload"]["uri"] == invitee]


class Door:
    """The way of the flows to Prefect: counts what they ask, and can hold back an answer."""

    def __init__(self, prefect_port: int) -> None:
        self.requests = 0
        self.held = False
        """Whether an answer is held back: what was asked has happened."""
        self._hold: int | None = None
        self._prefect_port = prefect_port
        self.port = 0
        ready = Event()
        Thread(target=lambda: asyncio.run(self._serve(ready)), daemon=True).start()
        ready.wait()

    def count(self, hold: int | None = None) -> None:
        """Count anew, and hold back the answer to one request."""
        self.requests, self.held, self._hold = 0, False, hold

    async def _serve(self, ready: Event) -> None:
        server = await asyncio.start_server(self._pass, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await server.serve_forever()

    async def _pass(self, asking: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        answering, ask_on = await asyncio.open_connection("127.0.0.1", self._prefect_port)
        held = False

        async def answers() -> None:
            while data := await answering.read(65_536):
                if held:
                    self.held = True
                    await asyncio.sleep(HELD_SECONDS)
                answer.write(data)
            answer.close()

        passing = asyncio.create_task(answers())
        with contextlib.suppress(ConnectionError):
            while data := await asking.read(65_536):
                if data.startswith(METHODS):  # otherwise it is JSON, or frames of a WebSocket
                    self.requests += 1
                    held = self.requests == self._hold
                ask_on.write(data)
        passing.cancel()
        for end in (ask_on, answer):
            end.close()


@dataclass
class World:
    """A sandbox and a Prefect server, both as their own APIs show them."""

    sandbox_url: str
    prefect_url: str
    door: Door
    listener: Listener
    people: dict[str, str] = field(default_factory=dict)
    """Who is meant by the URI of an invitee: the same name in each world."""
    began: str = ""
    """When this world began, as Prefect writes times."""

    def sandbox(self, path: str, body: Any = None, method: str | None = None) -> Any:
        return ask(f"{self.sandbox_url}/_sandbox{path}", body, method=method)

    def prefect(self, path: str, body: Any = None, method: str | None = None) -> Any:
        """Ask Prefect; its SQLite answers 503 while it is locked: ask again."""
        deadline = time.monotonic() + LONGEST_SECONDS
        while True:
            try:
                return ask(f"{self.prefect_url}/api{path}", body, method=method)
            except OSError as error:
                if getattr(error, "code", None) != 503 or time.monotonic() > deadline:
                    raise
            time.sleep(0.5)

    def begin(self, **options: Any) -> None:
        """The same world again. Of the last one Prefect remembers only events, and what is booked has other ids now."""
        self.sandbox("/reset", options)
        for variable in self.prefect("/variables/filter", {}):
            self.prefect(f"/variables/{variable['id']}", method="DELETE")
        if block := self.block():
            self.prefect(f"/block_documents/{block['id']}", method="DELETE")
        self.people.clear()
        self.listener.deliveries.clear()
        self.began = datetime.now(UTC).isoformat()

    def book(self, name: str, domain: str = "shop.example", **members: Any) -> str:
        """Somebody books; the URI of the invitee."""
        made = self.sandbox("/events", {"invitees": [{"email": f"{name}@{domain}"}], **members})
        self.people[made["invitees"][0]] = name
        return str(made["invitees"][0])

    def state(self) -> dict[str, Any]:
        return dict(self.sandbox("/state?full=1"))

    def hooks(self) -> list[dict[str, Any]]:
        """The webhook subscriptions that deliver to the listener."""
        listed = self.state()["webhook_subscription_list"]
        return [hook for hook in listed if hook["callback_url"] == self.listener.url]

    def block(self) -> dict[str, Any] | None:
        """The block of the signing key; None if there is none."""
        wanted = {"block_documents": {"name": {"any_": [BLOCK]}}, "include_secrets": True}
        return next(iter(self.prefect("/block_documents/filter", wanted)), None)

    def variables(self) -> list[dict[str, Any]]:
        return [variable["value"] for variable in self.prefect("/variables/filter", {})]

    def events(self) -> list[str]:
        """What Prefect was told of the people of this world: `name: who, by whom`, once for each event."""
        wanted = {
            "resource": {"labels": {"calendly.uri": list(self.people)}},
            "occurred": {"since": "2000-01-01T00:00:00Z", "until": "2100-01-01T00:00:00Z"},
        }
        found = self.prefect("/events/filter", {"filter": wanted, "limit": 50})
        assert not found["next_page"]
        told = [(each["event"], each["resource"]) for each in found["events"]]
        return sorted(
            f"{name}: {self.people[resource['calendly.uri']]}, by {resource['calendly.source']}"
            for name, resource in told
        )

    def artifacts(self, key: str) -> list[Any]:
        """What the versions of an artifact hold that were written in this world."""
        found = self.prefect(
            "/artifacts/filter", {"artifacts": {"key": {"any_": [key]}}, "sort": "CREATED_DESC", "limit": 20}
        )
        return [each["data"] for each in found if datetime.fromisoformat(each["created"]).isoformat() >= self.began]


# The flows, and what must be the same in the end


class Case:
    """A flow in a world."""

    name: ClassVar[str]
    flow: ClassVar[str]
    runs_before: ClassVar[bool] = False
    """Whether there is an undisturbed run before."""

    def arrange(self, world: World) -> None:
        """Make the world."""
        raise NotImplementedError

    def happens(self, world: World) -> None:
        """What happens before the run that may be killed, and after that other one."""

    def parameters(self, world: World) -> dict[str, Any]:
        raise NotImplementedError

    def meanwhile(self, world: World) -> None:
        """What happens after the run that may be killed, and before the last."""

    def seen(self, world: World) -> dict[str, Any]:
        """What there is in the end, in words that are the same in each world."""
        raise NotImplementedError

    def wrong(self, world: World, seen: dict[str, Any]) -> list[str]:
        """What must never be, whatever there was after the undisturbed runs."""
        raise NotImplementedError


class Cancel(Case):
    """Events of an organisation, some of them with somebody of a blocked domain, and one that is booked meanwhile."""

    name = "cancel-blocked-domains"
    flow = "cancel-blocked-domains"

    def __init__(self) -> None:
        self._now = datetime.now(UTC)

    def arrange(self, world: World) -> None:
        world.begin(events=60, invitees=120, now=self._in(0))
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

    def seen(self, world: World) -> dict[str, Any]:
        state = world.state()
        return {
            "canceled by the flow": sorted(
                (event["uri"], event["cancellation"]["reason"]) for event in state["canceled_by_api"]
            ),
            "all events": sorted(state["events"].items()),
            "cancellations that took effect": world.sandbox("/stats")["writes"].get("cancellation", 0),
        }

    def wrong(self, world: World, seen: dict[str, Any]) -> list[str]:
        canceled = {uri.rpartition("/")[2] for uri, _ in seen["canceled by the flow"]}
        told: set[str] = set()
        for table in world.artifacts("cancel-blocked-domains-decisions"):
            told |= {
                row["event"]
                for row in json.loads(table)
                if row["what happened"].startswith(("about to be canceled", "canceled"))
            }
        return _only(
            ("fewer than 10 events canceled", len(canceled) < 10),
            ("something canceled twice", seen["cancellations that took effect"] != len(canceled)),
            (f"canceled, and in no artifact: {sorted(canceled - told)}", not canceled <= told),
        )


class Screen(Case):
    """A booking of a blocked domain among others."""

    name = "screen-booking"
    flow = "screen-booking"

    def arrange(self, world: World) -> None:
        world.begin(events=0)
        for name in ("ann", "ben"):
            world.book(name)
        self._invitee = world.book("eve", "blocked.example")

    def parameters(self, world: World) -> dict[str, Any]:
        return {"invitee": self._invitee, "policy": POLICY, "dry_run": False}

    def seen(self, world: World) -> dict[str, Any]:
        state = world.state()
        return {
            "canceled by the flow": [
                world.people[uri] for each in state["canceled_by_api"] for uri in each["invitees"]
            ],
            "events that are active": state["active_events"],
            "cancellations that took effect": world.sandbox("/stats")["writes"].get("cancellation", 0),
        }

    def wrong(self, world: World, seen: dict[str, Any]) -> list[str]:
        event = self._invitee.split("/")[-3]
        tables = [json.loads(each) for each in world.artifacts("screen-booking-decisions")]
        return _only(
            ("not just the one event canceled, once", list(seen.values())[::2] != [["eve"], 1]),
            ("no artifact of the cancellation", not any(row["event"] == event for table in tables for row in table)),
        )


class Webhook(Case):
    """There is no subscription yet."""

    name = "webhook, created"
    flow = "ensure-webhook-subscription"
    keys: ClassVar[int] = 1

    def arrange(self, world: World) -> None:
        world.begin(events=0)

    def parameters(self, world: World) -> dict[str, Any]:
        return {"subscription": {"callback_url": world.listener.url, "signing_key_block": BLOCK}}

    def meanwhile(self, world: World) -> None:
        if world.hooks():  # before there is a first subscription, nothing is missed
            world.book("meanwhile")

    def seen(self, world: World) -> dict[str, Any]:
        """What there is; with a last booking that is to be delivered."""
        world.book("last")
        world.sandbox("/deliveries?wait=30")
        block = world.block()
        ring = block["data"]["value"] if block else {"keys": [], "subscription": None}
        (memory,) = world.variables()
        hooks, delivered = world.hooks(), world.listener.delivered(list(world.people)[-1])
        told = " ".join(world.events())
        self._untold = [
            who
            for uri, who in world.people.items()
            if f": {who}, " not in told
            and not any(_is_signed(*each, key) for each in world.listener.delivered(uri) for key in ring["keys"])
        ]
        own = ("callback_url", "state", "events", "scope", "organization", "user", "group", "creator")
        return {
            "subscriptions": [{name: hook[name] for name in own} for hook in hooks],
            "of other URLs": world.state()["webhook_subscriptions"] - len(hooks),
            "keys in the block": len(ring["keys"]),
            "the block names the subscription": [ring["subscription"]] == [_uuid(hook) for hook in hooks],
            "the variable names the subscription": [memory["subscription"]] == [_uuid(hook) for hook in hooks],
            "what is still to be told": memory["gap_since"],
            "signed with the newest key": [_is_signed(sign, body, ring["keys"][0]) for sign, body in delivered],
        }

    def wrong(self, world: World, seen: dict[str, Any]) -> list[str]:
        return _only(
            ("not exactly one subscription", len(seen["subscriptions"]) != 1),
            (f"not {self.keys} keys in the block", seen["keys in the block"] != self.keys),
            ("the block does not name the subscription", not seen["the block names the subscription"]),
            (
                "a new booking is not delivered once, signed with the newest key",
                seen["signed with the newest key"] != [True],
            ),
            (
                f"neither delivered with an accepted signature nor told to Prefect: {', '.join(self._untold)}",
                bool(self._untold),
            ),
            ("no artifact", not world.artifacts("ensure-webhook-subscription")),
        )


class Heal(Webhook):
    """Calendly has disabled the subscription, and bookings were not delivered."""

    name = "webhook, revived"
    runs_before = True

    def happens(self, world: World) -> None:
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

    def happens(self, world: World) -> None:
        block = world.block()
        assert block is not None
        ring = block["data"]["value"]
        self._old = ring["keys"][0]
        ring["made_at"] = (datetime.fromisoformat(ring["made_at"]) - timedelta(days=1)).isoformat()
        data = {"data": {"value": ring}, "merge_existing_data": False}
        world.prefect(f"/block_documents/{block['id']}", data, "PATCH")

    def parameters(self, world: World) -> dict[str, Any]:
        return {**super().parameters(world), "rotate_key_now": True}

    def seen(self, world: World) -> dict[str, Any]:
        block = world.block()
        return {
            **super().seen(world),
            "the old key is accepted": bool(block and self._old in block["data"]["value"]["keys"]),
        }


class Poll(Case):
    """Bookings, a cancellation and a move since the first run, and a booking between the two runs."""

    name = "poll-bookings"
    flow = "poll-bookings"
    runs_before = True

    def arrange(self, world: World) -> None:
        world.begin(events=0)

    def happens(self, world: World) -> None:
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

    def seen(self, world: World) -> dict[str, Any]:
        return {"events in Prefect": world.events(), "canceled by the flow": world.state()["canceled_by_api"]}

    def wrong(self, world: World, seen: dict[str, Any]) -> list[str]:
        events = seen["events in Prefect"]
        told = " ".join(events)
        return _only(
            ("fewer than 10 events in Prefect", len(events) < 10),
            ("events doubled", len(events) != len(set(events))),
            ("a booking is missing", not all(f"invitee.created: {who}, " in told for who in world.people.values())),
            ("no artifact", not world.artifacts(self.flow)),
        )


class Reconcile(Poll):
    """The same half an hour ago, and Prefect knows nothing of it."""

    name = "reconcile-bookings"
    flow = "reconcile-bookings"
    runs_before = False

    def arrange(self, world: World) -> None:
        now = datetime.now(UTC)
        world.begin(events=0, now=(now - timedelta(minutes=30)).isoformat())
        super().happens(world)
        world.sandbox("/clock", {"now": now.isoformat()})

    def happens(self, world: World) -> None:
        pass

    def parameters(self, world: World) -> dict[str, Any]:
        return {"window": {"scope": "organization", "hours": 1}}

    def meanwhile(self, world: World) -> None:
        pass  # what is so new is not compared yet


CASES: Final = (Cancel, Screen, Webhook, Heal, Rotate, Poll, Reconcile)


def _only(*checks: tuple[str, bool]) -> list[str]:
    return [what for what, wrong in checks if wrong]


def _uuid(resource: dict[str, Any]) -> str:
    return str(resource["uri"]).rpartition("/")[2]


def _is_signed(header: str, body: bytes, key: str) -> bool:
    """Say whether a delivery is signed with a key; reckoned here, not by the package."""
    parts = dict(part.split("=", 1) for part in header.split(","))
    digest = hmac.new(key.encode(), f"{parts['t']}.".encode() + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(digest, parts["v1"])


def _differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Say how what was found differs from what there was after the undisturbed runs."""
    return [
        f"{what}: {found[what]!r}, undisturbed {there!r}"
        if not isinstance(there, list)
        else f"{what}: too much: {_without(found[what], there)}, missing: {_without(there, found[what])}"
        for what, there in expected.items()
        if found[what] != there
    ]


def _without(one: list[Any], other: list[Any]) -> list[Any]:
    left = list(one)
    for each in other:
        if each in left:
            left.remove(each)
    return left


# Running and killing


@dataclass(frozen=True)
class Course:
    """How an undisturbed run went."""

    asked: list[float]
    """Seconds from its first request to each."""
    posts: int
    """How many of them were a POST."""
    of_prefect: int
    """How many requests Prefect got."""
    seconds: float
    """From its first request until its flow returned."""


@dataclass(frozen=True)
class Point:
    """When a run is killed: some seconds after a request, or while its answer is held back."""

    kind: str
    """Of the request: `POST`, any `request`, or `request to Prefect`."""
    number: int
    of: int
    after: float | None
    """None while the answer is held back."""

    def __str__(self) -> str:
        how = "while it waits for the answer to" if self.after is None else f"{self.after:.2f} s after"
        return f"killed {how} {self.kind} {self.number} of {self.of}"


def points(draw: random.Random, kills: int, course: Course) -> list[Point]:
    """Return when to kill: at random, spread over the run, in a random order."""
    # With few kills, the first kinds.
    among = {"POST": course.posts, "request to Prefect": course.of_prefect, "moment": 0, "request": len(course.asked)}
    kinds = [kind for kind in among if kind != "POST" or course.posts]
    found = []
    for number in range(kills):
        kind, share = kinds[number % len(kinds)], (number + draw.random()) / kills
        if kind == "moment":
            moment = share * course.seconds
            asked = bisect_right(course.asked, moment)
            found.append(Point("request", asked, len(course.asked), moment - course.asked[asked - 1]))
        else:
            found.append(Point(kind, int(share * among[kind]) + 1, among[kind], None))
    draw.shuffle(found)
    return found


class Runner:
    """Runs flows, each in a process of its own, and kills them."""

    def __init__(self, world: World, log: Path, environment: dict[str, str]) -> None:
        self._world, self.log = world, log
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.endurance.soak_flows"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )

    def run(self, case: Case) -> Course:
        """Run a flow undisturbed."""
        before, moments = self._requests(), list[float]()
        self._world.door.count()
        self._order(case)
        while (word := self._word()) is None:
            moments += [time.monotonic()] * (self._requests().total() - before.total() - len(moments))
        returned, of_prefect = time.monotonic(), self._world.door.requests
        made = self._requests() - before
        moments += [returned] * (made.total() - len(moments))
        if word != "returned" or (word := self._last_word()) != "0":
            raise FailedError(f"the flow has failed (exit code {word}); its log ends with:\n{tail(self.log)}")
        posts = sum(number for route, number in made.items() if route.startswith("POST "))
        asked = [moment - moments[0] for moment in moments]
        return Course(asked, posts, of_prefect, returned - moments[0])

    def kill(self, case: Case, point: Point) -> bool:
        """Run a flow, and kill it when the point is reached; say whether its flow had returned before."""
        before, reached, door = self._requests().total(), None, self._world.door
        to_prefect = point.kind == "request to Prefect"
        door.count(hold=point.number if to_prefect else None)
        if point.after is None and not to_prefect:
            fault = {"kind": "latency", "seconds": HELD_SECONDS, "skip": point.number - 1}
            self._world.sandbox("/faults", fault | ({"method": "POST"} if point.kind == "POST" else {}))
        pid = self._order(case)
        while (word := self._word()) is None:
            if point.after is None:
                if door.held or self._world.sandbox("/stats")["faults"]:
                    break
            elif reached is None:
                reached = time.monotonic() if self._requests().total() - before >= point.number else None
            elif time.monotonic() - reached >= point.after:
                break
        returned = word == "returned"
        if word is None or returned:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            word = self._last_word()
        self._world.sandbox("/faults", method="DELETE")
        if word != str(-signal.SIGKILL) and not (returned and word == "0"):
            raise FailedError(f"the flow has ended before it was killed; its log ends with:\n{tail(self.log)}")
        return returned

    def _requests(self) -> Counter[str]:
        return Counter(self._world.sandbox("/stats")["by_route"])

    def _order(self, case: Case) -> int:
        """Let a process run a flow; its number."""
        sandbox = self._world.sandbox_url
        credentials = {
            "api_key": KEY,
            "gateway_url": f"{sandbox}/calendly",
            "connections_url": sandbox,
            "requests_per_second": 10_000,
        }
        parameters = case.parameters(self._world)
        order = {"flow": case.flow, "credentials": credentials, "parameters": parameters, "log": str(self.log)}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._deadline = time.monotonic() + LONGEST_SECONDS
        return int(self._last_word())

    def _word(self) -> str | None:
        """What the process has said since it was last asked; None after a moment without a word."""
        assert self._process.stdout is not None
        if select.select([self._process.stdout], [], [], LOOK_EVERY_SECONDS)[0]:
            if not (line := self._process.stdout.readline()):
                raise FailedError("the process that runs the flows has ended")
            return line.decode().strip()
        if time.monotonic() > self._deadline:
            raise FailedError(f"a flow has not ended within {LONGEST_SECONDS} s; its log ends with:\n{tail(self.log)}")
        return None

    def _last_word(self) -> str:
        """The next thing that is said, but for `returned`."""
        while (word := self._word()) in (None, "returned"):
            pass
        return str(word)


# The test


@dataclass
class Soak:
    """A case: its undisturbed runs, and those that are killed."""

    case: Case
    world: World
    runner: Runner

    late: int = 0
    """How many were killed only when their flow had returned."""

    def undisturbed(self) -> Course:
        """Note what there is in the end, of two worlds that must not differ; the quicker course."""
        courses, ends = [], []
        for _ in range(2):
            self._begin()
            courses.append(self.runner.run(self.case))
            ends.append(self._end())
        (self.expected, wrong), (again, _) = ends
        if wrong or again != self.expected:
            raise FailedError("; ".join(["undisturbed", *wrong, *_differences(again, self.expected)]))
        return min(courses, key=lambda course: course.seconds)

    def killed(self, point: Point) -> list[str]:
        """Kill, and run again; what is not as it should be."""
        try:
            self._begin()
            self.late += self.runner.kill(self.case, point)
            found, wrong = self._end()
        except FailedError as error:
            return [str(error)]
        return wrong + _differences(found, self.expected)

    def _begin(self) -> None:
        self.case.arrange(self.world)
        if self.case.runs_before:
            self.runner.run(self.case)
        self.case.happens(self.world)
        self.world.sandbox("/stats/reset", {})

    def _end(self) -> tuple[dict[str, Any], list[str]]:
        self.case.meanwhile(self.world)
        self.runner.run(self.case)
        found = self.case.seen(self.world)
        return found, self.case.wrong(self.world, found)


def _started(home: Path, name: str) -> tuple[World, Runner]:
    """Start a sandbox, a Prefect server and what runs the flows."""
    ports = {name: free_port() for name in ("sandbox", "prefect")}
    sandbox, prefect = (f"http://127.0.0.1:{port}" for port in ports.values())
    environment = own_environment(
        home / name,
        **{MARK: str(home)},
        PREFECT_SERVER_API_PORT=str(ports["prefect"]),
        # So that a flow need not wait seconds until its events are stored.
        PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL="0.2",
    )
    processes = Processes(home / name)
    limits = ["--gateway-rps", "0", "--rate-limit-per-minute", "0", "--latency-ms", str(LATENCY_MS)]
    of_sandbox = [*sandbox_command(0, KEY, ports["sandbox"]), *limits]
    processes.start("sandbox", of_sandbox, environment, f"{sandbox}/_sandbox/clock")
    processes.start("prefect", ["-m", "prefect", "server", "start"], environment, f"{prefect}/api/health")
    world = World(sandbox, prefect, Door(ports["prefect"]), Listener())
    environment["PREFECT_API_URL"] = f"http://127.0.0.1:{world.door.port}/api"
    return world, Runner(world, home / name / "flow.log", environment)


def main() -> int:
    """Run it; return 1 if something is not as it should be, or could not be done."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="of each flow (default: 50)")
    parser.add_argument("--seed", type=int, help="the same seed kills at the same points (default: another each time)")
    parser.add_argument("--flow", choices=[case.name for case in CASES], action="append", help="only this; repeatable")
    parser.add_argument("--only", type=int, help="only the kill of this number")
    parser.add_argument("--worlds", type=int, default=2, help="sandboxes and Prefect servers at once (default: 2)")
    options = parser.parse_args()
    seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    began = time.monotonic()
    cases = [case() for case in CASES if options.flow is None or case.name in options.flow]
    say(f"Starting {options.worlds} sandboxes and Prefect servers; {options.kills} kills of each flow, seed {seed} …")
    with tempfile.TemporaryDirectory(prefix="calendly-soak-") as folder, contained(home := Path(folder)):
        free = SimpleQueue[tuple[World, Runner]]()

        def soak(case: Case) -> int:
            """How many kills of a flow have not ended well."""
            world, runner = free.get()
            try:
                return _soak(Soak(case, world, runner), seed, options.kills, options.only)
            except (FailedError, OSError) as error:
                log = tail(runner.log.with_name("prefect.log")) if isinstance(error, OSError) else ""
                say(f"✗ {case.name}, seed {seed}: {error}\n{log}".rstrip())
                return 1
            finally:
                free.put((world, runner))

        pool = ThreadPoolExecutor(options.worlds)
        try:
            for number in range(options.worlds):
                free.put(_started(home, f"world-{number}"))
            failed = sum(pool.map(soak, cases))
        except FailedError as error:
            print(f"soak: {error}", file=sys.stderr)
            return 1
        finally:  # after Ctrl-C too, when some are at work
            pool.shutdown(wait=False, cancel_futures=True)
    print(f"\nDone in {time.monotonic() - began:.0f} s, {failed} failed; nothing is left running.", flush=True)
    return int(failed > 0)


def _soak(soak: Soak, seed: int, kills: int, only: int | None) -> int:
    """Kill one flow so often; how often it did not end well."""
    began, failed, name = time.monotonic(), 0, soak.case.name
    course = soak.undisturbed()
    found = list(enumerate(points(random.Random(f"{seed} {name}"), kills, course), 1))
    killed = [(number, point) for number, point in found if only in (None, number)]
    for number, point in killed:
        if wrong := soak.killed(point):
            failed += 1
            again = f"--seed {seed} --kills {kills} --flow '{name}' --only {number}"
            say("\n    ".join([f"✗ {name}, kill {number}: {point}", *wrong, f'again: make soak ARGS="{again}"']))
    held, asked = sum(point.after is None for _, point in killed), len(course.asked)
    say(
        f"{name}: {asked} requests, and {course.of_prefect} to Prefect, in {course.seconds:.1f} s; "
        f"killed {len(killed)} times, {held} while an answer was held back, {soak.late} at its very end; {failed} "
        f"failed; {time.monotonic() - began:.0f} s"
    )
    return failed


if __name__ == "__main__":
    sys.exit(main())
