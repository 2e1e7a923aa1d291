"""Run the flows of the soak test, each in a process that may be killed: `python -m tests.endurance.soak_flows`.

It reads orders from stdin, one line of JSON each. For each order it writes to stdout the process ID, `returned` when
the flow has returned, and the exit code of the process. Everything is imported once and nothing is opened, because the
process of a flow is a fork of this one.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from typing import Any

from flows.cancel_blocked_domains import cancel_blocked_domains
from flows.ensure_webhook_subscription import ensure_webhook_subscription
from flows.poll_bookings import poll_bookings
from flows.reconcile_bookings import reconcile_bookings
from flows.screen_booking import screen_booking
from prefect_calendly import CalendlyCredentials

FLOWS: dict[str, Any] = {
    flow.name: flow
    for flow in (
        cancel_blocked_domains,
        ensure_webhook_subscription,
        poll_bookings,
        reconcile_bookings,
        screen_booking,
    )
}


def main() -> None:
    """Fork a process for each order."""
    for line in sys.stdin:
        order = json.loads(line)
        if threading.active_count() > 1:
            raise RuntimeError("an import has started a thread, which would not survive the fork")
        pid = os.fork()
        if pid == 0:
            _run(order)
            return  # not os._exit: Prefect sends its last logs when the process exits
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _run(order: dict[str, Any]) -> None:
    """Run the flow of an order; its output goes to a log."""
    answers = os.dup(1)
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for output in (1, 2):
        os.dup2(log, output)
    credentials = CalendlyCredentials(**order["credentials"])
    asyncio.run(FLOWS[order["flow"]](credentials, **order["parameters"]))
    os.write(answers, b"returned\n")


if __name__ == "__main__":
    main()
