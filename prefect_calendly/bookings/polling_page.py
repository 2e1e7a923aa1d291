"""The artifact of a run of polling."""

from __future__ import annotations

from typing import Final

from prefect.artifacts import acreate_markdown_artifact

from prefect_calendly.bookings.polling import BookingsToPoll, PollReport
from prefect_calendly.bookings.reading import Reading
from prefect_calendly.client import RequestMeter
from prefect_calendly.runs.logger import run_logger
from prefect_calendly.runs.markdown import cost, escape, pluralize, sections
from prefect_calendly.runs.state import state_block

SUMMARY_KEY: Final = "poll-bookings"


async def show_poll(
    report: PollReport, polling: BookingsToPoll, reading: Reading, cursor_name: str, meter: RequestMeter
) -> None:
    """Log how a run ended, and write its artifact.

    Args:
        report: How it ended.
        polling: What was asked for.
        reading: What was read, for the problems.
        cursor_name: Name of the state that holds the cursor.
        meter: Has counted the requests of the run.
    """
    run_logger().info("%s; %s", headline(report), pluralize(report.requests, "request"))
    before = "none" if report.updated_since_before is None else f"{report.updated_since_before:%Y-%m-%d %H:%M:%S} UTC"
    page = sections(
        headline(report),
        {
            "Scope": [
                f"{pluralize(report.events_listed, 'event')} of "
                + ("the organization" if polling.scope == "organization" else "the current user"),
                f"{report.changed} of them changed",
                pluralize(report.invitee_lists, "invitee list") + (", with rechecked ones" if polling.recheck else ""),
            ],
            "Result": [
                *(f"{number} {escape(event)}" for event, number in report.emitted.items()),
                f"{report.already_there} that Prefect had already",
            ],
            "Cursor": [
                f"before: changes since {before}",
                f"after: changes since {report.updated_since:%Y-%m-%d %H:%M:%S} UTC",
                f"kept in the block `{state_block(cursor_name)}`; delete it to start over",
            ],
            "Problems": reading.problems,
            "Cost": cost(meter, report.seconds),
        },
    )
    await acreate_markdown_artifact(page, key=SUMMARY_KEY, description=headline(report))


def headline(report: PollReport) -> str:
    """Return one line on how a run ended."""
    if report.seeded:
        return "FIRST RUN: set the cursor; changes from now on are emitted"
    emitted = sum(report.emitted.values())
    failed = f", {pluralize(report.unreadable, 'event')} UNREADABLE" if report.unreadable else ""
    return f"Emitted {pluralize(emitted, 'event')}; {report.changed} of {report.events_listed} bookings changed{failed}"
