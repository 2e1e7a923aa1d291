"""Write down that nobody has decided about a plan in time: Prefect ends such a run without asking the flow."""

from __future__ import annotations

from datetime import timedelta
from typing import Final
from uuid import UUID

from prefect.client.orchestration import get_client

from flows.cancel_blocked_domains import APPROVAL_HOURS, PLAN, PLAN_KEY, CancelPolicy, Run
from prefect_calendly.runs.flow import calendly_flow
from prefect_calendly.runs.human_input import recall
from prefect_calendly.runs.logger import run_logger
from prefect_calendly.runs.notifications import notify

EXPIRED_MESSAGES: Final = tuple(f"The flow was {how} and never resumed." for how in ("paused", "suspended", "resuming"))
"""How Prefect ends a flow run that nobody has resumed in time, or somebody too late."""


@calendly_flow(flow_run_name="approval of {flow_run_id} has expired")
async def record_expired_approval(flow_run_id: UUID) -> bool:
    """Write the audit of a cancel-blocked-domains run that waited for a person in vain, and tell about it.

    Its deployment is triggered by the end of such a run. It changes nothing in Calendly.

    Args:
        flow_run_id: The run that has ended.

    Returns:
        Whether it was such a run; if not, nothing was written.
    """
    logger = run_logger()
    async with get_client() as client:
        flow_run = await client.read_flow_run(flow_run_id)
    state = flow_run.state
    kept = await recall(PLAN_KEY, flow_run_id)
    if state is None or not state.is_failed() or state.message not in EXPIRED_MESSAGES or kept is None:
        logger.info("Flow run %s does not wait for a person in vain: nothing to write down.", flow_run_id)
        return False
    policy = CancelPolicy.model_validate(flow_run.parameters["policy"])
    plan = PLAN.validate_json(kept)
    until = plan.planned_at + timedelta(hours=flow_run.parameters.get("approval_hours", APPROVAL_HOURS))
    run = Run(policy, dry_run=False, plan=plan, waits_until=until, expired=True)
    await run.write()
    logger.info("%s (flow run %s)", run.headline(), flow_run_id)
    await notify(policy.notify, f"Blocked domains: {run.headline()}", "Run the deployment again.", flow_run_id)
    return True
