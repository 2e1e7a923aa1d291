"""The build steps: what they put into a deployment when it is made."""

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentUpdate, WorkPoolCreate
from prefect.schedules import Cron

from flows.poll_bookings import poll_bookings
from prefect_calendly.deploy_steps import keep_switches

pytestmark = pytest.mark.usefixtures("prefect_server")


async def test_a_schedule_is_as_the_server_has_it_and_as_at_first_where_it_is_new() -> None:
    schedule = Cron("*/5 * * * *", slug="often", active=True)
    await (await poll_bookings.ato_deployment("switched", schedule=schedule)).aapply()
    # One without a work pool is served: it is paused when its process ends, and not by a person.
    async with get_client() as client:
        await client.create_work_pool(WorkPoolCreate(name="of-the-steps", type="process"))
        for name, pool in (("paused", "of-the-steps"), ("served", None)):
            made = await poll_bookings.ato_deployment(name, schedule=schedule, work_pool_name=pool)
            identifier = await made.aapply()
            await client.update_deployment(identifier, DeploymentUpdate(paused=True))
    assert keep_switches(off_at_first=["paused/often", "served/often"]) == {
        "paused": {"often": False},
        "served": {"often": True},
    }
    assert keep_switches(
        on_at_first=["new/often"], off_at_first=["switched/often", "switched/other", "older/often"]
    ) == {
        "new": {"often": True},
        "switched": {"often": True, "other": False},
        "older": {"often": False},
    }
