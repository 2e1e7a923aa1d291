"""The artifact of a run and its message, whether the run ends well or not."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from logging import ERROR, INFO
from typing import Final

import httpx
from prefect.artifacts import acreate_markdown_artifact

from prefect_calendly.client import count_requests
from prefect_calendly.client.errors import CalendlyError
from prefect_calendly.events.prefect_api import events_client, last_delivery
from prefect_calendly.runs.logger import run_logger
from prefect_calendly.runs.markdown import escape
from prefect_calendly.runs.notifications import notify
from prefect_calendly.subscription.page import headline, page
from prefect_calendly.subscription.report import SubscriptionReport, SubscriptionRun
from prefect_calendly.subscription.spec import SubscriptionSpec

ARTIFACT_KEY: Final = "ensure-webhook-subscription"


@contextlib.asynccontextmanager
async def published_run(spec: SubscriptionSpec, *, dry_run: bool) -> AsyncIterator[SubscriptionRun]:
    """Note what the block does, and leave the artifact at its end; send a message if something was changed or failed.

    Args:
        spec: The subscription that there should be.
        dry_run: Whether nothing is to be changed.

    Example:
        ```python
        spec = SubscriptionSpec(callback_url="https://hooks.example.com/calendly")
        async with published_run(spec, dry_run=True) as run:
            run.account = await get_account(credentials)
            await preview(run, credentials)
        print(run.report().outcome)
        ```
    """
    with count_requests() as meter:
        run = SubscriptionRun(spec, dry_run, meter)
        try:
            yield run
        except Exception as error:
            # Other errors may hold anything: the run's log has them.
            safe = isinstance(error, CalendlyError | ValueError)
            await _publish(run, run.report(str(error) if safe else f"{type(error).__name__}; see the run's log"))
            raise
        await _publish(run, run.report())


async def _publish(run: SubscriptionRun, report: SubscriptionReport) -> None:
    spec, line = run.spec, headline(report, run.spec)
    run_logger().log(ERROR if report.outcome == "failed" else INFO, "%s", line)
    delivered_at = None
    with contextlib.suppress(httpx.HTTPError):
        async with events_client() as client:
            delivered_at = await last_delivery(client)
    text, about = page(run, report, delivered_at), escape(f"Webhook subscription of {spec.host}")
    await acreate_markdown_artifact(text, key=ARTIFACT_KEY, description=about)
    changed = not report.dry_run and (report.outcome != "unchanged" or report.deleted or report.gap_emitted)
    if changed or report.outcome == "failed":
        await notify(spec.notify, f"Calendly webhook subscription {report.outcome}", line)
