"""What deploying would change on the Prefect server: also what a person has set there, in the UI."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName
from prefect.client.schemas.responses import DeploymentResponse

from deployments.files import FILE, deployments_of
from deployments.schema import Schedule
from prefect_calendly.deploy_steps import is_on


async def changes(path: Path = FILE) -> list[str]:
    """Say what deploying a file would change in the deployments that the Prefect server has.

    Whether a schedule is on is not changed by a deploy where the file leaves it to `keep_switches`.

    Args:
        path: A file without problems of its own.

    Returns:
        One line per value, without the values of parameters, which may be private.
    """
    wanted = deployments_of(path, server=True)
    names = DeploymentFilter(name=DeploymentFilterName(any_=[each["name"] for each in wanted]))
    async with get_client() as client:
        there = {(each.name, each.entrypoint): each for each in await client.read_deployments(deployment_filter=names)}
    pairs = [(each, there.get((each["name"], each["entrypoint"]))) for each in wanted]
    return [f"{each['name']}: {line}" for each, found in pairs if found is not None for line in _changes(found, each)]


def _changes(found: DeploymentResponse, wanted: dict[str, Any]) -> Iterator[str]:
    yield from _of_schedules(found, wanted.get("schedules") or [])
    yield from _differences(found.parameters, wanted.get("parameters") or {}, "parameters")
    limit = wanted.get("concurrency_limit")
    others = {
        "tags": (sorted(found.tags), sorted(wanted.get("tags") or [])),
        "description": (found.description, wanted.get("description", found.description)),
        "concurrency_limit": (
            found.global_concurrency_limit and found.global_concurrency_limit.limit,
            limit.get("limit") if isinstance(limit, dict) else limit,
        ),
        "work_pool.job_variables": (found.job_variables, wanted["work_pool"].get("job_variables") or {}),
    }
    yield from (f"{name}: is another one on the server" for name, (old, new) in others.items() if old != new)


def _of_schedules(found: DeploymentResponse, wanted: list[dict[str, Any]]) -> Iterator[str]:
    by_slug = {each.slug: each for each in found.schedules if each.slug}
    for each in wanted:
        if (there := by_slug.get(str(each.get("slug")))) is None:
            continue
        new = Schedule.model_validate(each)
        for key in ("cron", "interval", "rrule", "timezone"):
            old_value, new_value = getattr(there.schedule, key, None), getattr(new, key)
            if old_value != new_value:
                yield f"schedules.{new.slug}.{key}: {old_value} on the server, {new_value} here"
        # Without `active`, Prefect leaves the schedule as it is, but resumes a deployment that is paused.
        on, stays_on = is_on(found, there), there.active if new.active is None else new.active
        if on != stays_on:
            yield f"schedules.{new.slug}: is {'on' if on else 'off'} on the server, {'on' if stays_on else 'off'} here"
    # Prefect updates schedules one by one only if all of them have a slug; else it makes all of them anew.
    if wanted and not all(each.slug for each in found.schedules):
        kept = {each.get("slug") for each in wanted}
        for schedule in (schedule for schedule in found.schedules if schedule.slug not in kept):
            rules = (getattr(schedule.schedule, key, None) for key in ("cron", "interval", "rrule"))
            rule = next(filter(None, rules))
            yield f"schedules: the one of {rule} is on the server only, and is removed; write it into the file"


def _differences(found: Any, wanted: Any, where: str) -> Iterator[str]:
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in dict.fromkeys([*found, *wanted]):
            yield from _differences(found.get(key), wanted.get(key), f"{where}.{key}")
    elif found != wanted:
        yield f"{where}: is another one on the server"
