"""Cancel upcoming events that somebody of a blocked domain has booked."""

from __future__ import annotations

import functools

from prefect import runtime

from prefect_calendly import CalendlyCredentials
from prefect_calendly.client import count_requests
from prefect_calendly.runs.flow import calendly_flow
from prefect_calendly.runs.human_input import check_can_wait
from prefect_calendly.runs.logger import run_logger
from prefect_calendly.runs.markdown import pluralize
from prefect_calendly.runs.notifications import check_notifier, notify, notify_on_failure
from prefect_calendly.screening.approval import APPROVAL_HOURS, ApprovalHours, approve, recall_plan
from prefect_calendly.screening.cancellation import cancel_events
from prefect_calendly.screening.page import CancelPage
from prefect_calendly.screening.policy import CancelPolicy
from prefect_calendly.screening.report import CancelReport
from prefect_calendly.screening.run import CancelRun
from prefect_calendly.screening.scan import save_cursor, scan_events


def _flow_run_name() -> str:
    dry_run = runtime.flow_run.parameters.get("dry_run", True)
    return "cancel blocked domains" + (" (dry run)" if dry_run else "")


@calendly_flow(flow_run_name=_flow_run_name)
async def cancel_blocked_domains(
    credentials: CalendlyCredentials,
    policy: CancelPolicy,
    dry_run: bool = True,
    require_approval: bool = False,
    approval_hours: ApprovalHours = APPROVAL_HOURS,
) -> CancelReport:
    """Cancel upcoming events that somebody of a blocked domain has booked.

    An event is canceled for all its invitees, and Calendly tells them. Only active events are read, so a second run,
    or one after a run that was killed half way, cancels nothing twice and does what is left.

    Args:
        credentials: Whose Calendly to use; for the whole organization, an owner's or admin's.
        policy: Whose bookings are not wanted, and how far canceling may go.
        dry_run: Only say what would be canceled.
        require_approval: Show the plan and wait until a person has decided about each event, on the page of the flow
            run. Only for runs of a deployment; a dry run asks nobody.
        approval_hours: How many hours to wait for that person. After that the run fails, and nothing is canceled.

    Returns:
        What was done and what it cost; no personal data.

    Raises:
        ValueError: There is no such notification block, or this run cannot wait for a person; nothing was done.
        TooManyCancellationsError: More events than the policy allows; none was canceled.
        CancellationsFailedError: Some events could not be checked or canceled; all others were.
        CalendlyError: The events could not be listed; none was canceled.
    """
    asks = require_approval and not dry_run
    if asks:
        await check_can_wait("start the deployment cancel-blocked-domains-with-approval, or leave require_approval off")
    on_failure = functools.partial(notify_on_failure, policy.notify, "Blocked domains: failed")

    with count_requests() as meter:
        async with on_failure("Nothing was canceled."):
            plan = await recall_plan(policy, approval_hours) if asks else None
        resumed = plan is not None
        if plan is None:
            # A resumed run does without: what a person has approved is not lost because of a message.
            await check_notifier(policy.notify)
            async with on_failure("Nothing was canceled."):
                plan = await scan_events(credentials, policy)
        run = CancelRun(plan, dry_run, meter, resumed)
        page = CancelPage(run)
        if asks:
            async with on_failure("Nothing was canceled."):
                await approve(run, approval_hours)
        if not dry_run and not run.over_cap:
            async with on_failure("See the log for what was canceled."):
                await page.write()  # the audit, should this run not come to its end
                run.outcomes = await cancel_events(credentials, run.approved, look_again=asks)
        await page.write()
        if run.done:
            await save_cursor(plan)

    report = run.report()
    run_logger().info("%s; %s", page.headline(), pluralize(report.requests, "request"))
    if report.to_cancel or report.failed or report.unreadable:
        body = f"{pluralize(report.events_checked, 'event')} checked. See the artifact {page.summary_key} of this run."
        await notify(policy.notify, f"Blocked domains: {page.headline()}", body)
    run.raise_for_failures()
    return report
