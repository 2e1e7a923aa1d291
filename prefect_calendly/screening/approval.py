"""Asking a person about a plan: the run shows it, ends, and starts again with the answer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
from prefect.client.schemas.sorting import ArtifactSort
from pydantic import Field

from prefect_calendly.runs.human_input import (
    LONGEST_WAIT_HOURS,
    Proposal,
    ask,
    forget,
    is_answered,
    recall,
    remember,
)
from prefect_calendly.runs.logger import run_logger
from prefect_calendly.runs.markdown import escape, pluralize
from prefect_calendly.runs.notifications import notify
from prefect_calendly.screening.page import SUMMARY_KEY, WAITING, CancelPage
from prefect_calendly.screening.plan import Plan
from prefect_calendly.screening.policy import CancelPolicy
from prefect_calendly.screening.run import CancelRun
from prefect_calendly.screening.scan import save_cursor

APPROVAL_HOURS: Final = 24

# Prefect's form keeps limits only in an annotation, and a description there only as an extra.
ApprovalHours = Annotated[
    float,
    Field(
        gt=0,
        le=LONGEST_WAIT_HOURS,
        json_schema_extra={
            "description": "How many hours to wait for that person. After that the run fails, and nothing is canceled."
        },
    ),
]

EXPIRED_MESSAGES: Final = tuple(f"The flow was {how} and never resumed." for how in ("paused", "suspended", "resuming"))
"""How Prefect ends a flow run that nobody has resumed in time, or somebody too late."""

# What the run keeps while it waits.
_PLAN: Final = "plan"
_ASKED: Final = "asked"


async def recall_plan(policy: CancelPolicy, approval_hours: float) -> Plan | None:
    """Return the plan that this run has made in an earlier process.

    Args:
        policy: The run's policy.
        approval_hours: How many hours a person has to decide.

    Returns:
        The plan; None if there is none, or nobody has decided about it in time: make a new one.

    Raises:
        ValueError: The plan is of another release.
    """
    kept = await recall(_PLAN)
    if kept is None:
        return None
    plan = Plan.from_json(kept, policy)
    if plan.planned_at + timedelta(hours=approval_hours) > datetime.now(UTC) or await is_answered(_question(plan)):
        return plan
    # Somebody has let a run start again that nobody had decided about in time.
    await forget(_ASKED, _PLAN)
    return None


async def approve(run: CancelRun, approval_hours: float) -> None:
    """Let a person decide about the plan of a run; the first time, end this process until somebody has.

    Afterwards `run.answer` holds the decision, and `run.approved` what is to be done. Nobody is asked about a plan
    that cancels nothing, or more than it may.

    Args:
        run: The run.
        approval_hours: How many hours a person has to decide. After that Prefect ends the run as failed.
    """
    run.waits_until = deadline = run.plan.planned_at + timedelta(hours=approval_hours)
    run.plan = run.plan.masked()
    if not run.waiting:
        return
    page, planned = CancelPage(run), run.plan.of("cancel")
    until = f"{deadline.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    if await recall(_PLAN) is None:
        await remember(_PLAN, run.plan.to_json())
    if await recall(_ASKED) is None:
        await page.write()
        # Not with the plan: it is large, and other runs may be further by then.
        await save_cursor(run.plan, rescan=[decision.event for decision in planned])
        run_logger().info("%s; a person may decide until %s", page.headline(), until)
        body = f"Decide until {until}: on the page of the flow run, menu ⋮, Resume. Otherwise nothing is canceled."
        await notify(run.policy.notify, f"Blocked domains: {page.headline()}", body)
        await remember(_ASKED, until)
    proposals = [Proposal(each.event, page.describe(each)) for each in planned]
    introduction = "\n".join(
        [
            f"# Cancel {pluralize(len(planned), 'event')}?\n",
            f"Decide until {until}: choose *Decision* and enter *Your name* below this list.\n",
            *(f"{number}. {escape(page.describe(each), 24)}" for number, each in enumerate(planned, 1)),
        ]
    )
    run.answer = await ask(_question(run.plan), proposals, introduction, run.policy.reason, deadline)
    run_logger().info("Decided: %s of %s approved", len(run.approved.of("cancel")), pluralize(len(planned), "event"))


async def read_abandoned_run(flow_run_id: UUID) -> CancelRun | None:
    """Return a run that has ended while it waited for a person: Prefect ends it without starting the flow again.

    Args:
        flow_run_id: The flow run.

    Returns:
        The run; None if it has ended otherwise, has not ended, or has never waited.
    """
    async with get_client() as client:
        flow_run = await client.read_flow_run(flow_run_id)
    state = flow_run.state
    abandoned: Literal["expired", "canceled"] | None = None
    if state is not None and state.is_failed() and state.message in EXPIRED_MESSAGES:
        abandoned = "expired"
    elif state is not None and state.is_cancelled() and await _waits_according_to_its_page(flow_run_id):
        abandoned = "canceled"
    kept = await recall(_PLAN, flow_run_id)
    if abandoned is None or kept is None:
        return None
    plan = Plan.from_json(kept, CancelPolicy.model_validate(flow_run.parameters["policy"]))
    until = plan.planned_at + timedelta(hours=flow_run.parameters.get("approval_hours", APPROVAL_HOURS))
    return CancelRun(plan, dry_run=False, resumed=True, waits_until=until, abandoned=abandoned)


async def _waits_according_to_its_page(flow_run_id: UUID) -> bool:
    # A run that goes on writes its page anew before it cancels the first event.
    wanted = ArtifactFilter(
        flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]), key=ArtifactFilterKey(any_=[SUMMARY_KEY])
    )
    async with get_client() as client:
        newest = await client.read_artifacts(artifact_filter=wanted, sort=ArtifactSort.CREATED_DESC, limit=1)
    return bool(newest) and (newest[0].description or "").startswith(WAITING)


def _question(plan: Plan) -> str:
    """Tell the question about this plan from that about another one of the same run."""
    return f"approval-{plan.planned_at.astimezone(UTC):%Y%m%d-%H%M%S}"
