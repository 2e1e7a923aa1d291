"""A deploy leaves schedules as a person has switched them, and all else that it changes is said before."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import DeploymentUpdate, WorkPoolCreate
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.settings import get_current_settings

from deployments.check.changes import changes
from deployments.files import EXAMPLE_VALUES, FILE, VALUES
from tests.support import ROOT

pytestmark = [pytest.mark.stack, pytest.mark.usefixtures("prefect_server")]

TRIGGER = "screen-booking__automation_1"
POLL, DIGEST = "poll-bookings/poll-bookings", "availability-digest/availability-digest"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Three of the shipped deployments, with the example's values."""
    shipped = yaml.safe_load(FILE.read_text().replace(VALUES, EXAMPLE_VALUES))
    chosen = [
        each
        for each in shipped["deployments"]
        if each["name"] in ("poll-bookings", "availability-digest", "screen-booking")
    ]
    path = tmp_path / "prefect.yaml"
    path.write_text(yaml.safe_dump({**shipped, "deployments": chosen}))
    return path


async def switches(client: PrefectClient) -> list[bool]:
    """Whether the schedules of both deployments are on."""
    found = [await client.read_deployment_by_name(name) for name in (POLL, DIGEST)]
    return [schedule.active for each in found for schedule in each.schedules]


async def set_by_hand(client: PrefectClient, name: str, **schedule: Any) -> DeploymentResponse:
    """Change the schedule of a deployment, as the page of Prefect's UI does."""
    found = await client.read_deployment_by_name(name)
    await client.update_deployment_schedule(found.id, found.schedules[0].id, **schedule)
    return found


async def test_prefect_deploy_leaves_switches_and_the_check_says_what_else_it_changes(file: Path) -> None:
    environment = {**os.environ, "PREFECT_API_URL": str(get_current_settings().api.url)}

    def deploy() -> None:
        do = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--prefect-file", str(file), "--all"]
        done = subprocess.run(do, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr

    async with get_client() as client:
        await client.create_work_pool(WorkPoolCreate(name="calendly", type="process"))
        assert await changes(file) == []
        deploy()
        assert await changes(file) == []
        assert await switches(client) == [False, True]

        await set_by_hand(client, POLL, active=True)
        digest = await set_by_hand(client, DIGEST, active=False)
        [automation] = await client.read_automations_by_name(TRIGGER)
        assert automation.enabled
        await client.pause_automation(automation.id)
        assert await changes(file) == []
        deploy()
        assert await switches(client) == [True, False]
        assert [each.enabled for each in await client.read_automations_by_name(TRIGGER)] == [False]

        # The switch of the whole deployment, which prefect deploy switches on.
        poll = await client.read_deployment_by_name(POLL)
        await client.update_deployment(poll.id, DeploymentUpdate(paused=True))
        assert await changes(file) == []
        deploy()
        assert await switches(client) == [False, False]
        await set_by_hand(client, POLL, active=True)

        await set_by_hand(client, POLL, schedule=CronSchedule(cron="*/7 * * * *", timezone="UTC"))
        parameters = {**digest.parameters, "request": {**digest.parameters["request"], "timezone": "Asia/Kolkata"}}
        await client.update_deployment(digest.id, DeploymentUpdate(parameters=parameters, tags=["mine"]))
        await client.create_deployment_schedules(digest.id, [(CronSchedule(cron="0 5 * * *"), True)])
        assert sorted(await changes(file)) == [
            "availability-digest: parameters.request.timezone: is another one on the server",
            "availability-digest: schedules: the one of 0 5 * * * is on the server only, and is removed; write it into "
            "the file",
            "availability-digest: tags: is another one on the server",
            "poll-bookings: schedules.every-five-minutes.cron: */7 * * * * on the server, */5 * * * * here",
        ]
        deploy()
        assert await changes(file) == []
        assert await switches(client) == [True, False]  # also where Prefect has made the schedule anew
