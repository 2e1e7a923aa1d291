"""The availability digest: who can be booked when, who cannot be booked at all, and what changed since last time."""

from __future__ import annotations

import time

from prefect_calendly import CalendlyCredentials
from prefect_calendly.client import count_requests
from prefect_calendly.digest.artifacts import (
    PROGRESS_KEY,
    artifact_key,
    changes_since_last,
    publish_page,
    publish_table,
)
from prefect_calendly.digest.page import notification
from prefect_calendly.digest.reading import read_digest
from prefect_calendly.digest.report import DigestReport, report_on
from prefect_calendly.digest.request import DigestRequest
from prefect_calendly.runs.flow import calendly_flow
from prefect_calendly.runs.notifications import check_notifier, notify, notify_on_failure
from prefect_calendly.runs.progress import progress
from prefect_calendly.users import aget_current_user


@calendly_flow(flow_run_name="availability digest {request.start_day} +{request.days} days")
async def availability_digest(credentials: CalendlyCredentials, request: DigestRequest) -> DigestReport:
    """Show who can be booked when in the next days, who cannot be booked at all, and what changed since last time.

    Publishes a markdown artifact to read, and a table artifact with one row per host and day. The flow only reads.
    What cannot be read of one host or event type is listed on the page and does not stop the rest.

    Args:
        credentials: Whose Calendly to use; an owner's or admin's for other hosts than yourself.
        request: Whose availability, and for which days.

    Returns:
        Counts, the first open slot, the keys of the artifacts, and what it cost.

    Raises:
        ValueError: There is no such notification block (no request was sent), or an email address belongs to no member
            of the organization.
        CalendlyError: The key was refused, or the hosts could not be listed.
        DigestUnreadableError: Nothing of any host could be read; the markdown artifact says why.
    """
    began = time.monotonic()
    await check_notifier(request.notify)
    async with notify_on_failure(request.notify, "Availability digest failed"):
        with count_requests() as meter:
            async with progress(PROGRESS_KEY, "Reading availability", meter) as steps:
                user = await aget_current_user(credentials)
                digest = await read_digest(credentials, request, user, steps)
        key = artifact_key(user.uri, request)
        changes = await changes_since_last(digest, key)
        await publish_page(digest, changes, key, meter, time.monotonic() - began)
        failure = await notify(request.notify, "Availability digest", notification(digest, changes))
        # Last, so that the next digest is compared with one that was readable and announced.
        await publish_table(digest, key)
    notified = request.notify is not None and failure is None
    return report_on(digest, changes, key, meter, time.monotonic() - began, notified=notified)
