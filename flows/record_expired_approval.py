"""Write down that a run waited for a person in vain: Prefect ends such a run without starting the flow again."""

from __future__ import annotations

from uuid import UUID

from prefect_calendly.runs.flow import calendly_flow
from prefect_calendly.runs.logger import run_logger
from prefect_calendly.runs.notifications import notify
from prefect_calendly.screening.approval import read_abandoned_run
from prefect_calendly.screening.page import CancelPage


@calendly_flow(flow_run_name="{flow_run_id} was not approved")
async def record_expired_approval(flow_run_id: UUID) -> bool:
    """Write the audit of a cancel-blocked-domains run that waited for a person in vain, and tell about it.

    Nobody has decided in time, or somebody has canceled the run while it waited. The deployment is triggered by the end
    of such a run. It changes nothing in Calendly.

    Args:
        flow_run_id: The run that has ended.

    Returns:
        Whether it was such a run; if not, nothing was written.
    """
    run = await read_abandoned_run(flow_run_id)
    if run is None:
        run_logger().info("Flow run %s did not wait for a person in vain: nothing to write down", flow_run_id)
        return False
    page = CancelPage(run)
    await page.write()
    run_logger().info("%s (flow run %s)", page.headline(), flow_run_id)
    await notify(run.policy.notify, f"Blocked domains: {page.headline()}", "Run the deployment again.", flow_run_id)
    return True
