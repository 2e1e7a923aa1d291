"""The build steps: what they put into a deployment when it is made."""

import pytest
from prefect.schedules import Cron

from flows.poll_bookings import poll_bookings
from prefect_calendly.deploy_steps import keep_switches

pytestmark = pytest.mark.usefixtures("prefect_server")


async def test_a_schedule_is_as_the_server_has_it_and_as_at_first_where_it_is_new() -> None:
    schedule = Cron("*/5 * * * *", slug="often", active=True)
    await (await poll_bookings.ato_deployment("switched", schedule=schedule)).aapply()
    assert keep_switches(
        on_at_first=["new/often"], off_at_first=["switched/often", "switched/other", "older/often"]
    ) == {
        "new": {"often": True},
        "switched": {"often": True, "other": False},
        "older": {"often": False},
    }
