"""Emit an event for everything that happens to bookings, without webhooks: by looking at them again and again."""

from __future__ import annotations

import time

from prefect_calendly import CalendlyCredentials
from prefect_calendly.bookings.polling import BookingsToPoll, PollReport, cursor_name, find_changes, read_cursor
from prefect_calendly.bookings.polling_page import SUMMARY_KEY, show_poll
from prefect_calendly.bookings.reading import BookingsUnreadableError
from prefect_calendly.client import count_requests
from prefect_calendly.events.emit import emit_events
from prefect_calendly.runs.flow import calendly_flow
from prefect_calendly.runs.markdown import pluralize
from prefect_calendly.runs.notifications import check_notifier, notify_on_failure
from prefect_calendly.runs.state import save_state
from prefect_calendly.users import aget_current_user


@calendly_flow(flow_run_name="poll bookings, scope {polling.scope}")
async def poll_bookings(credentials: CalendlyCredentials, polling: BookingsToPoll) -> PollReport:
    """Emit the events that webhooks would emit, for Calendly plans without webhooks.

    Run it on a schedule. The first run only sets the cursor. Later ones list the bookings from yesterday on, and read
    the invitees of those that have changed. The events have the same ids as those of webhooks, and Prefect stores an id
    once: a run that is killed half way, a second one, or webhooks beside it lose nothing and double nothing. After a
    pause of more than 6 days, what happened right before it may be emitted again, because Prefect has forgotten it.

    Args:
        credentials: Whose Calendly to use; for the whole organization, an owner's or admin's.
        polling: Whose bookings to poll, and how closely.

    Returns:
        What was found and emitted, and what it cost; no personal data.

    Raises:
        ValueError: There is no such notification block (no request was sent), or somebody has changed the cursor.
        BookingsUnreadableError: The invitees of some bookings could not be listed. All other events were emitted; the
            next run tries these again.
        CalendlyError: The bookings could not be listed; nothing was emitted.
        EventsNotStoredError: Prefect accepted some events and does not show them; the next run emits them again.
    """
    began = time.monotonic()
    await check_notifier(polling.notify)
    async with notify_on_failure(polling.notify, "Polling bookings failed"):
        with count_requests() as meter:
            user = await aget_current_user(credentials)
            cursor = cursor_name(credentials, user, polling.scope)
            poll = await find_changes(credentials, user, polling, await read_cursor(cursor), meter)
            emitted = await emit_events(poll.events_to_emit)
            # At the end: if anything before has failed, the next run does it again.
            await save_state(cursor, poll.next_cursor)
        report = poll.report(emitted, meter, time.monotonic() - began)
        await show_poll(report, polling, poll.reading, cursor, meter)
        if report.unreadable:
            raise BookingsUnreadableError(
                f"The invitees of {pluralize(report.unreadable, 'booking')} could not be listed: their events are not "
                f"emitted yet, all others are. The artifact {SUMMARY_KEY} says why; the next run tries again.",
                report,
            )
    return report
