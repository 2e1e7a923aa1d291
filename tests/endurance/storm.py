"""Thousands of deliveries, some twice or out of order, while receiver and Prefect are killed: is each event there once?

`make storm-test` makes a sandbox book meetings and deliver them to the receiver, which emits events to a Prefect server
with SQLite. Meanwhile the receiver and the Prefect server are killed, and also stopped, in the middle of their work,
and restarted. In the end all events are read from Prefect's API and compared with the bookings.
"""

from __future__ import annotations

import argparse
import secrets
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from deployments.local import own_environment, sandbox_command
from deployments.processes import contained, free_port
from tests.endurance.running import KEY, FailedError, Processes, ask, metric, say, until

ORGANIZATION = "https://api.calendly.com/organizations/BBBBBBBBBBBBBBBB"
CREATED: Final = "calendly.invitee.created"
# Calendly waits for minutes before it repeats a delivery; at this speed they pass in seconds.
CLOCK_SPEED = 60
AT_A_TIME = 250


def stored(api: str, names: list[str]) -> Iterator[dict[str, Any]]:
    """Read all events of some names from Prefect's API."""
    wanted = {"event": {"name": names}, "occurred": {"until": "2100-01-01T00:00:00Z"}, "order": "ASC"}
    page = ask(f"{api}/events/filter", {"filter": wanted, "limit": 50})
    while True:
        yield from page["events"]
        if not page["next_page"]:
            return
        query = urlsplit(page["next_page"]).query
        assert parse_qs(query)["page-token"]
        page = ask(f"{api}/events/filter/next?{query}")


def main() -> int:
    """Run the test; return 1 if something is wrong, or could not be done."""
    parser = argparse.ArgumentParser(prog="make storm-test", description=__doc__)
    parser.add_argument("--bookings", type=int, default=10_000, help="how many (default: 10000)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="calendly-storm-") as folder, contained(home := Path(folder)):
        try:
            failed = storm(home, options.bookings)
        except FailedError as error:
            print(f"storm-test: {error}", file=sys.stderr)
            return 1
    return int(failed)


def storm(home: Path, bookings: int) -> bool:
    """Run the test; return whether something is wrong."""
    began = time.monotonic()
    ports = {name: free_port() for name in ("prefect", "sandbox", "receiver")}
    api, sandbox, receiver = (f"http://127.0.0.1:{port}" for port in ports.values())
    environment = own_environment(
        home,
        PREFECT_API_URL=f"{api}/api",
        PREFECT_SERVER_API_PORT=str(ports["prefect"]),
        CALENDLY_WEBHOOK_SIGNING_KEY=(signing_key := secrets.token_hex(24)),
    )
    say(
        f"Starting sandbox, Prefect server and receiver; {bookings} bookings, 10 % delivered twice, 10 % out of order …"
    )
    processes = Processes(home)
    of_sandbox = [*sandbox_command(0, KEY, ports["sandbox"]), "--clock-speed", str(CLOCK_SPEED)]
    processes.start("sandbox", of_sandbox, environment, f"{sandbox}/_sandbox/clock")
    processes.start("prefect", ["-m", "prefect", "server", "start"], environment, f"{api}/api/health")
    store = f"sqlite:///{home / 'receiver.db'}"
    of_receiver = ["-m", "prefect_calendly.webhooks", "--port", str(ports["receiver"]), "--store", store]
    processes.start("receiver", of_receiver, environment, f"{receiver}/readyz")
    subscription = {
        "url": f"{receiver}/webhooks/calendly",
        "events": ["invitee.created", "invitee.canceled"],
        "organization": ORGANIZATION,
        "scope": "organization",
        "signing_key": signing_key,
    }
    ask(f"{sandbox}/calendly/webhook_subscriptions", subscription)
    deliveries = f"{sandbox}/_sandbox/deliveries"
    ask(deliveries, {"duplicate": 0.1, "reorder": 0.1})

    booked: list[str] = []
    started = time.monotonic()
    booking = threading.Thread(target=_book, args=(sandbox, bookings, booked), daemon=True)
    booking.start()

    def delivered(share: float) -> None:
        until(f"{share:.0%} of the bookings delivered", lambda: ask(deliveries)["delivered"] >= share * bookings)

    def interrupted(share: float, name: str, how: signal.Signals, what: str) -> None:
        delivered(share)
        code = processes.end(name, how)
        say(f"{ask(deliveries)['delivered']} delivered: {what} (exit code {code})")
        time.sleep(1)  # meanwhile deliveries fail
        processes.restart(name)

    # The receiver comes first, because a restart resets its counters.
    interrupted(0.25, "receiver", signal.SIGKILL, "receiver killed with kill -9")
    interrupted(0.45, "receiver", signal.SIGTERM, "receiver stopped")
    interrupted(0.65, "prefect", signal.SIGKILL, "Prefect server killed with kill -9")
    interrupted(0.80, "prefect", signal.SIGTERM, "Prefect server stopped")
    booking.join()
    until("all deliveries accepted", lambda: ask(deliveries)["pending"] == 0)
    took = time.monotonic() - started
    state = ask(deliveries)
    say(f"All accepted after {took:.0f} s; waiting until the receiver has found each of them in Prefect …")
    until("all events are confirmed", lambda: metric(receiver, "events_unconfirmed") == 0, 300)
    reposted = metric(receiver, "events_reposted_total")
    say("Reading all events from Prefect …")
    found = list(stored(f"{api}/api", [CREATED]))
    return _judged(booked, found, state, bookings, took, reposted, time.monotonic() - began)


def _book(sandbox: str, bookings: int, booked: list[str]) -> None:
    """Book meetings, some at a time, so that there are always deliveries under way."""
    while len(booked) < bookings:
        if ask(f"{sandbox}/_sandbox/deliveries")["pending"] < 4 * AT_A_TIME:
            count = min(AT_A_TIME, bookings - len(booked))
            booked += ask(f"{sandbox}/_sandbox/burst", {"count": count, "domains": ["a.example", "b.example"]})[
                "invitees"
            ]
        time.sleep(0.05)


def _judged(
    booked: list[str],
    found: list[dict[str, Any]],
    state: dict[str, Any],
    bookings: int,
    took: float,
    reposted: float,
    seconds: float,
) -> bool:
    """Print the result; return whether something is wrong."""
    times = Counter(event["resource"]["calendly.uri"] for event in found)
    missing = [uri for uri in booked if uri not in times]
    doubled = [uri for uri, count in times.items() if count > 1]
    unknown = set(times) - set(booked)
    table = [
        ("bookings", len(booked)),
        ("deliveries accepted", state["delivered"]),
        ("attempts that failed and were repeated", state["failed_attempts"]),
        ("events in Prefect", len(found)),
        ("events that Prefect had lost and got again", int(reposted)),
        ("accepted per second, outages included", round(state["delivered"] / took)),
    ]
    print()
    for what, number in table:
        print(f"{what:<56} {number:>6}")
    print()
    checks = [
        (f"each of {bookings} bookings was delivered at least once", state["delivered"] >= bookings == len(booked)),
        ("some deliveries came twice", state["delivered"] > bookings),
        ("some deliveries failed and had to be repeated", state["failed_attempts"] > 0),
        (f"no booking is without its event in Prefect{_some(missing)}", not missing),
        (f"no booking has two events{_some(doubled)}", not doubled),
        (f"there is no event about anything else{_some(sorted(unknown))}", not unknown),
    ]
    for what, well in checks:
        print("✓" if well else "✗", what)
    print(f"\nDone in {seconds:.0f} s; nothing is left running.", flush=True)
    return not all(well for _, well in checks)


def _some(uris: list[str]) -> str:
    return f": {len(uris)}, such as {', '.join(uris[:3])}" if uris else ""


if __name__ == "__main__":
    sys.exit(main())
