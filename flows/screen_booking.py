"""Screen one booking, right after it was made: cancel it if somebody of a blocked domain has booked."""

from __future__ import annotations

import functools

from prefect import runtime

from prefect_calendly import CalendlyCredentials
from prefect_calendly.client import count_requests
from prefect_calendly.runs.flow import calendly_flow
from prefect_calendly.runs.logger import run_logger
from prefect_calendly.runs.markdown import pluralize
from prefect_calendly.runs.notifications import check_notifier, notify, notify_on_failure
from prefect_calendly.screening.booking import InviteeUri, plan_for_booking, read_booking
from prefect_calendly.screening.cancellation import cancel_events
from prefect_calendly.screening.hourly_cap import count_recent_cancellations, record_cancellation, record_refusal
from prefect_calendly.screening.page import ScreenPage
from prefect_calendly.screening.policy import CancelPolicy
from prefect_calendly.screening.report import ScreenReport
from prefect_calendly.screening.run import ScreenRun


def _flow_run_name() -> str:
    dry_run = runtime.flow_run.parameters.get("dry_run", True)
    return "screen booking" + (" (dry run)" if dry_run else "")


@calendly_flow(flow_run_name=_flow_run_name)
async def screen_booking(
    credentials: CalendlyCredentials, invitee: InviteeUri, policy: CancelPolicy, dry_run: bool = True
) -> ScreenReport:
    """Cancel a booking if somebody of a blocked domain has made it: for a trigger on `calendly.invitee.created`.

    Decides as `cancel_blocked_domains` does, about the whole event; start and horizon of the policy do not matter. A
    welcome booking costs two requests and leaves a line in the log. A second run, or one after a run that was killed,
    cancels nothing twice. A wrong policy is stopped: all runs together cancel no more than `max_cancellations` of an
    account (with scope organization, of the organization) within an hour; a few more if many run at the same time.

    Args:
        credentials: Whose Calendly to use; for the whole organization, an owner's or admin's.
        invitee: URI of the invitee who has booked.
        policy: Whose bookings are not wanted, and how far canceling may go.
        dry_run: Only say what would be done.

    Returns:
        What was done and what it cost; no personal data.

    Raises:
        ValueError: There is no such notification block; nothing was done.
        TooManyCancellationsError: As many as the policy allows were canceled within the last hour; this one was not.
        CancellationsFailedError: The event could not be canceled, or the invitee is not to be found in it.
        CalendlyError: The booking could not be read; nothing was canceled.
    """
    await check_notifier(policy.notify)
    on_failure = functools.partial(notify_on_failure, policy.notify, "Screening: failed")

    with count_requests() as meter:
        async with on_failure("Nothing was canceled."):
            booking = await read_booking(credentials, invitee)
            plan = await plan_for_booking(credentials, booking, policy)
            run = ScreenRun(plan, dry_run, meter, booking=booking)
            decision, page = run.decision, ScreenPage(run)
            cancels = decision.action == "cancel" and not dry_run
            if cancels:
                run.cap_reached = await count_recent_cancellations(plan.account) >= policy.max_cancellations
        if cancels and not run.cap_reached:
            async with on_failure("See the log for what was canceled."):
                await page.write()  # the audit, should this run not come to its end
                run.outcomes = await cancel_events(credentials, plan)
                if run.action == "canceled":
                    await record_cancellation(decision, plan.account)
        report = run.screen_report()
        if decision.action != "keep":
            await page.write()

    if run.cap_reached and await record_refusal(decision, plan.account):
        body = "It and those after it are left alone: see whether blocked_domains is right."
        await notify(policy.notify, f"Screening: {page.headline()}", body)
    elif report.action in ("would be canceled", "canceled", "undecided", "failed") and not run.cap_reached:
        body = f"See the artifact {page.summary_key} of this flow run."
        await notify(policy.notify, f"Screening: {page.headline()}", body)
    run.raise_for_failures()
    requests = pluralize(report.requests, "request")
    run_logger().info("Event %s %s: %s; %s", report.event, report.action, report.why, requests)
    return report
