"""Check `prefect.yaml`, without a server."""

from __future__ import annotations

import functools
import inspect
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml
from prefect import Flow
from prefect.client.schemas.objects import ConcurrencyOptions
from prefect.client.schemas.schedules import CronSchedule, RRuleSchedule
from prefect.flows import load_flow_from_entrypoint
from prefect.workers.process import ProcessWorker
from pydantic import ValidationError

from deployments.check.parameters import BLOCK_REFERENCE, parameter_problems, trigger_problems
from deployments.check.validation import did_you_mean, problems_against, read, texts_of, unknown_keys
from deployments.check.values import unknown_values
from deployments.files import FILE
from deployments.schema import ConcurrencyLimit, Deployment, DeploymentsFile, Schedule, WorkPool, keys_of
from prefect_calendly.deploy_steps import filled_in
from prefect_calendly.resource import zone_names

_TEMPLATE: Final = re.compile(r"\{\{\s*(.*?)\s*\}\}")
_SECRET_NAME: Final = re.compile(r"key|token|secret|passw", re.IGNORECASE)
_CHECKED_APART: Final = ("schedule", "schedules", "triggers", "concurrency_limit", "work_pool")


def problems(path: Path = FILE) -> list[str]:
    """Say what is wrong with a deployments file.

    Args:
        path: A file as `prefect deploy --prefect-file` reads it.

    Returns:
        One line per problem: where it is and what to do. Empty if all is well.
    """
    raw = read(path)
    return [raw] if isinstance(raw, str) else list(_file(raw))


def _file(raw: dict[str, Any]) -> Iterator[str]:
    # Prefect ignores `definitions` too; it is where the YAML anchors are.
    yield from unknown_keys(raw, keys_of(DeploymentsFile) | {"definitions"}, "")
    deployments = raw.get("deployments")
    if not isinstance(deployments, list) or not deployments:
        yield "deployments: must be a list of deployments"
        return
    yield from _pull(raw, deployments)
    named = []
    for number, deployment in enumerate(deployments):
        if isinstance(deployment, dict) and isinstance(deployment.get("name"), str):
            named.append(deployment)
        else:
            yield f"deployments[{number}]: needs a name"
    try:
        made = filled_in({**raw, "deployments": named})
    except (OSError, ValueError, TypeError, LookupError, AttributeError, yaml.YAMLError) as error:
        yield f"build: {' '.join(str(error).split())}"
        return
    yield from unknown_values(raw)
    seen = set()
    for written, deployment in zip(named, made, strict=True):
        where = f"{deployment['name']}: "
        identity = (deployment.get("entrypoint"), deployment["name"])
        if identity in seen:
            yield f"{where}is there twice for the same flow; Prefect keeps the last one"
        seen.add(identity)
        found = (*_secrets(written), *_deployment(deployment))
        yield from (f"{where}{problem}" for problem in found)


def _pull(raw: dict[str, Any], deployments: list[Any]) -> Iterator[str]:
    """Check that workers find the files of the flows in the folder that a pull step takes them to."""
    if "pull" not in raw:
        yield "pull: is missing, so that prefect deploy asks about it; write pull: [] if workers have the code"
        return
    for where, directory in texts_of(raw["pull"], "pull"):
        templates = _TEMPLATE.findall(directory)
        only_here = all(name.startswith("$") for name in templates)  # others are resolved where the flow runs
        if not where.endswith("set_working_directory.directory") or not only_here:
            continue
        if unset := [name for name in templates if name[1:] not in os.environ]:
            yield f"{where}: {unset[0]} is not set; deploy from a shell, in the project root"
            continue
        folder = Path(_TEMPLATE.sub(lambda template: os.environ[template[1][1:]], directory))
        entrypoints = [str(each.get("entrypoint")) for each in deployments if isinstance(each, dict)]
        files = dict.fromkeys(each.rpartition(":")[0] for each in entrypoints if ".py:" in each)
        if missing := [file for file in files if not (folder / file).is_file()]:
            yield f"{where}: there is no {missing[0]} in {folder}; deploy from the project root"


def _deployment(deployment: dict[str, Any]) -> Iterator[str]:
    yield from unknown_keys(deployment, keys_of(Deployment), "")
    yield from problems_against(Deployment, {k: v for k, v in deployment.items() if k not in _CHECKED_APART}, "")
    if "schedule" in deployment:
        yield "schedule: is deprecated; write a list under schedules"
    if "schedules" not in deployment:
        yield "schedules: is missing, so that prefect deploy asks about it; write schedules: [] if there is none"
    yield from _schedules(deployment.get("schedules") or [])
    yield from _pool(deployment.get("work_pool"))
    yield from _limit(deployment.get("concurrency_limit"))
    flow = _flow(deployment.get("entrypoint"))
    if isinstance(flow, str):
        yield flow
        return
    yield from _flow_problems(flow, deployment)
    yield from _says_that_it_writes(flow, deployment)


def _flow_problems(flow: Flow[..., Any], deployment: dict[str, Any]) -> Iterator[str]:
    given = deployment.get("parameters") or {}
    schedules = [each for each in deployment.get("schedules") or [] if isinstance(each, dict)]
    # Without a schedule, a person can fill in what is missing.
    complete = bool(schedules) and not all(each.get("parameters") for each in schedules)
    yield from parameter_problems(flow, given, "parameters", complete=complete)
    for number, each in enumerate(schedules):
        if own := each.get("parameters"):
            yield from parameter_problems(flow, {**given, **own}, f"schedules[{number}].parameters", complete=True)
    for number, trigger in enumerate(deployment.get("triggers") or []):
        yield from trigger_problems(flow, trigger, given, f"triggers[{number}].")


def _schedules(schedules: Any) -> Iterator[str]:
    slugs = [each.get("slug") for each in schedules if isinstance(each, dict)]
    for number, each in enumerate(schedules):
        where = f"schedules[{number}]."
        invalid = problems_against(Schedule, each, where)
        yield from invalid
        if invalid:
            continue
        if not each.get("slug"):
            yield f"{where}slug: is missing; with one, deploying again changes this schedule instead of making another"
        elif slugs.count(each["slug"]) > 1:
            yield f"{where}slug: {each['slug']!r} is there twice"
        if not each.get("timezone"):
            yield f"{where}timezone: is missing; write an IANA zone such as Europe/Berlin, or UTC"
        elif each["timezone"] not in zone_names():
            yield f"{where}timezone: {each['timezone']!r} is no IANA zone{did_you_mean(each['timezone'], zone_names())}"
        yield from _rule(each, where)


def _rule(schedule: dict[str, Any], where: str) -> Iterator[str]:
    """Check a cron or an RRULE, which Prefect's server would refuse."""
    try:
        if "cron" in schedule:
            CronSchedule(cron=schedule["cron"])
        elif "rrule" in schedule:
            RRuleSchedule(rrule=schedule["rrule"])
    except ValidationError:
        kind = "cron" if "cron" in schedule else "rrule"
        example = "five fields, such as 0 7 * * 1-5" if kind == "cron" else "RFC 5545, such as FREQ=HOURLY"
        yield f"{where}{kind}: {schedule[kind]!r} is invalid; write {example}"


def _pool(pool: Any) -> Iterator[str]:
    if not isinstance(pool, dict) or not pool.get("name"):
        yield "work_pool.name: is missing; write the name of the work pool that runs it"
        return
    yield from problems_against(WorkPool, pool, "work_pool.")
    known = set(ProcessWorker.get_default_base_job_template()["variables"]["properties"])
    yield from unknown_keys(pool.get("job_variables") or {}, known, "work_pool.job_variables.")


def _limit(limit: Any) -> Iterator[str]:
    where = "concurrency_limit"
    if isinstance(limit, dict):
        yield from unknown_keys(limit, keys_of(ConcurrencyLimit), f"{where}.")
        options = {key: value for key, value in limit.items() if key in keys_of(ConcurrencyOptions)}
        yield from problems_against(ConcurrencyOptions, options, f"{where}.")
        limit, where = limit.get("limit"), f"{where}.limit"
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        yield f"{where}: must be a whole number from 1"


def _secrets(deployment: dict[str, Any]) -> Iterator[str]:
    """Find templates of secrets: Prefect resolves them when it deploys, and stores the secrets with the deployment."""
    for part in set(deployment) - {"build", "push", "pull", "triggers"}:
        for where, text in texts_of(deployment[part], part):
            for template in _TEMPLATE.findall(text):
                if template.startswith("prefect.blocks") or (
                    template.startswith(("prefect.variables", "$")) and _SECRET_NAME.search(template)
                ):
                    instead = BLOCK_REFERENCE if part == "parameters" else "a variable in the worker's own environment"
                    yield f"{where}: {{{{ {template} }}}} would be stored in clear; use {instead}"


def _flow(entrypoint: Any) -> Flow[..., Any] | str:
    if not isinstance(entrypoint, str):
        return "entrypoint: is missing; write path/to/file.py:function or module.function of a flow"
    try:
        return _load_flow(entrypoint)
    except Exception as error:  # whatever the module does when it is imported
        why = " ".join(str(error).split())
        return f"entrypoint: {entrypoint!r} cannot be loaded ({type(error).__name__}: {why}); correct or install it"


@functools.cache  # Prefect would run the file again for each deployment
def _load_flow(entrypoint: str) -> Flow[..., Any]:
    return load_flow_from_entrypoint(entrypoint, use_placeholder_flow=False)


def _says_that_it_writes(flow: Flow[..., Any], deployment: dict[str, Any]) -> Iterator[str]:
    parameter = inspect.signature(flow.fn).parameters.get("dry_run")
    if parameter is None or (deployment.get("parameters") or {}).get("dry_run", parameter.default) is not False:
        return
    if "writes" not in (deployment.get("tags") or []):
        yield "tags: dry_run is false here; add the tag writes, or set dry_run to true"
    if "WRITES" not in (deployment.get("description") or ""):
        yield "description: dry_run is false here; say what it WRITES, or set dry_run to true"
