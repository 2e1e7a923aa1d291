"""Compare what Calendly shows with the events that Prefect has, and emit those that are missing."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from prefect_calendly import CalendlyCredentials
from prefect_calendly.bookings.reading import BookingsUnreadableError, read_window
from prefect_calendly.bookings.reconciliation import BookingsToReconcile, ReconcileReport, compare_with_prefect
from prefect_calendly.bookings.reconciliation_page import SUMMARY_KEY, headline, show_reconciliation
from prefect_calendly.client import count_requests
from prefect_calendly.events.emit import emit_events
from prefect_calendly.runs.flow import calendly_flow
from prefect_calendly.runs.markdown import pluralize
from prefect_calendly.runs.notifications import check_notifier, notify, notify_on_failure
from prefect_calendly.users import aget_current_user


@calendly_flow(flow_run_name="reconcile bookings, scope {window.scope}, {window.hours} hours")
async def reconcile_bookings(credentials: CalendlyCredentials, window: BookingsToReconcile) -> ReconcileReport:
    """Find what webhooks have missed or delivered late, and emit the events that Prefect does not have.

    Reads what Calendly shows of the last hours, and compares it with the events that Prefect has. An event that polling
    or a backfill has emitted first counts as one that came by no webhook: Prefect keeps the first.

    Args:
        credentials: Whose Calendly to use; for the whole organization, an owner's or admin's.
        window: Whose bookings to compare, and over which time.

    Returns:
        What was found, and what it cost; no personal data.

    Raises:
        ValueError: There is no such notification block; no request was sent.
        BookingsUnreadableError: The invitees of some bookings could not be listed; all others were compared.
        CalendlyError: The bookings could not be listed; nothing was emitted.
        EventsNotStoredError: Prefect accepted some events and does not show them.
    """
    began = time.monotonic()
    await check_notifier(window.notify)
    async with notify_on_failure(window.notify, "Reconciling bookings failed"):
        since, until = window.span(datetime.now(UTC))
        with count_requests() as meter:
            user = await aget_current_user(credentials)
            _, reading = await read_window(
                credentials,
                user,
                scope=window.scope,
                since=since,
                until=until,
                payload=window.payload,
                source="backfill",
                meter=meter,
            )
        comparison = await compare_with_prefect(reading, user, window, since, until)
        emitted = await emit_events(comparison.missing if window.emit_missing else ())
        seconds, unreadable = time.monotonic() - began, len(reading.unread)
        report = comparison.report(since, until, emitted=emitted, unreadable=unreadable, meter=meter, seconds=seconds)
        await show_reconciliation(report, window, comparison, reading, meter)
        if report.unreadable:
            raise BookingsUnreadableError(
                f"The invitees of {pluralize(report.unreadable, 'booking')} could not be listed; all others are "
                f"compared. The artifact {SUMMARY_KEY} says why. Start a new run.",
                report,
            )
    if report.missed or report.late or report.unexpected:
        await notify(
            window.notify, f"Bookings: {headline(report)}", f"See the artifact {SUMMARY_KEY} of this flow run."
        )
    return report
