"""Check the deployments file: `python -m deployments.check [--server] [file]`.

Prefect ignores keys that it does not know, and stores what it is given: a typo deploys a flow without a schedule, and a
template of a secret ends in the database in clear. What is found here is found before anything is deployed.
"""

from __future__ import annotations

import argparse
import asyncio
import difflib
import inspect
import re
import sys
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import yaml
from httpx import HTTPError
from prefect import Flow
from prefect.blocks.core import Block, UnknownBlockType
from prefect.cli.deploy._models import (
    ConcurrencyLimitSpec,
    DeploymentConfig,
    PrefectYamlModel,
    RawScheduleConfig,
    WorkPoolConfig,
)
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import ConcurrencyOptions
from prefect.client.schemas.schedules import CronSchedule, RRuleSchedule
from prefect.events import (
    AutomationCore,
    DeploymentCompoundTrigger,
    DeploymentEventTrigger,
    DeploymentSequenceTrigger,
    DeploymentTriggerTypes,
)
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.flows import load_flow_from_entrypoint
from prefect.settings import get_current_settings
from prefect.workers.process import ProcessWorker
from pydantic import BaseModel, RootModel, TypeAdapter, ValidationError

from prefect_calendly.resource import zone_names

FILE = Path(__file__).with_name("prefect.yaml")
AUTOMATIONS = Path(__file__).with_name("automations.yaml")
EVENT_AUTOMATIONS = Path(__file__).with_name("event-automations.yaml")

_TRIGGERS: dict[str, type[BaseModel]] = {
    "event": DeploymentEventTrigger,
    "compound": DeploymentCompoundTrigger,
    "sequence": DeploymentSequenceTrigger,
}
_TEMPLATE = re.compile(r"\{\{\s*(.*?)\s*\}\}")
_SECRET_NAME = re.compile(r"key|token|secret|passw", re.IGNORECASE)
_SLUG = re.compile(r"[a-z0-9-]+/[a-z0-9-]+")
_REFERENCE = "{$ref: {block_document_slug: <type>/<name>}}"


def problems(path: Path = FILE) -> list[str]:
    """Say what is wrong with a deployments file, without a server.

    Args:
        path: A file as `prefect deploy --prefect-file` reads it.

    Returns:
        One line per problem: where it is and what to do. Empty if all is well.
    """
    raw = _read(path)
    return [raw] if isinstance(raw, str) else list(_problems(raw))


def automation_problems(path: Path = AUTOMATIONS) -> list[str]:
    """Say what is wrong with an automations file.

    Args:
        path: A file as `deployments.automations` and `prefect automation create --from-file` read it.

    Returns:
        One line per problem.
    """
    raw = _read(path)
    if isinstance(raw, str):
        return [raw]
    found = _unknown(raw, {"automations"}, "")
    for number, automation in enumerate(raw.get("automations") or []):
        found += _against(AutomationCore, with_block_ids(automation, {}), f"automations[{number}].")
    return found


def blocks_of(automations: list[dict[str, Any]]) -> list[str]:
    """Return type and name of the blocks that automations without problems send messages through."""
    actions = [action for automation in automations for action in automation["actions"]]
    named = [str(action.get("block_document_id")) for action in actions]
    return [name for name in dict.fromkeys(named) if _SLUG.fullmatch(name)]


def with_block_ids(automation: Any, ids: Mapping[str, str]) -> Any:
    """Put ids where an automation names blocks by type and name, which Prefect does not read.

    Args:
        automation: As it is written.
        ids: By type and name; others get an id of nothing, for a check.

    Returns:
        A copy.
    """
    if not isinstance(automation, dict) or not isinstance(automation.get("actions"), list):
        return automation
    return {**automation, "actions": [_with_block_id(action, ids) for action in automation["actions"]]}


def _with_block_id(action: Any, ids: Mapping[str, str]) -> Any:
    if not isinstance(action, dict) or not _SLUG.fullmatch(str(name := action.get("block_document_id"))):
        return action
    return {**action, "block_document_id": ids.get(str(name), str(UUID(int=0)))}


async def server_problems(path: Path = FILE, *, pools: bool = True) -> list[str]:
    """Say what a deployments file needs and the Prefect server does not have.

    Args:
        path: A file without problems of its own.
        pools: Whether its work pools are needed; not where it is served from one process.

    Returns:
        One line per problem.
    """
    if found := await no_server():
        return found
    async with get_client() as client:
        return [problem async for problem in _missing(client, deployments_of(path), pools)]


async def no_server() -> list[str]:
    """Say why the Prefect server cannot be asked; empty if it can."""
    url = get_current_settings().api.url
    if not url:
        return ["PREFECT_API_URL is not set: prefect config set PREFECT_API_URL=http://<server>:4200/api"]
    async with get_client() as client:
        try:
            await client.read_work_pools(limit=1)  # not its health, which is told without a password too
        except PrefectHTTPStatusError as error:
            said = error.response.status_code
            return [f"the Prefect server at {url} answers {said}" + "; set PREFECT_API_AUTH_STRING" * (said == 401)]
        except (HTTPError, OSError) as error:
            return [f"no Prefect server answers at {url} ({type(error).__name__}): start it, or set PREFECT_API_URL"]
    return []


def deployments_of(path: Path = FILE) -> list[dict[str, Any]]:
    """Return the deployments of a file without problems, as they are written."""
    return list(yaml.safe_load(path.read_text(encoding="utf-8"))["deployments"])


def trigger_of(written: dict[str, Any]) -> DeploymentTriggerTypes:
    """Return a trigger of a deployment as Prefect's own object."""
    return cast("DeploymentTriggerTypes", _TRIGGERS[written.get("type", "event")].model_validate(written))


def main() -> int:
    """Print the problems; return 1 if there are any."""
    parser = argparse.ArgumentParser(prog="python -m deployments.check", description="Check a deployments file.")
    parser.add_argument("file", nargs="?", type=Path, default=FILE)
    parser.add_argument("--server", action="store_true", help="also ask the Prefect server for pools and blocks")
    options = parser.parse_args()
    found = problems(options.file)
    if options.file == FILE:
        found += automation_problems() + automation_problems(EVENT_AUTOMATIONS)
    if options.server and not found:
        found = asyncio.run(server_problems(options.file))
    for problem in found:
        print(problem, file=sys.stderr)
    if not found:
        print(f"{options.file.name}: {len(deployments_of(options.file))} deployments, no problems")
    return 1 if found else 0


# The file


def _read(path: Path) -> dict[str, Any] | str:
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        return f"{path.name}: cannot be read: {' '.join(str(error).split())}"
    return raw if isinstance(raw, dict) else f"{path.name}: must be a mapping with deployments in it"


def _problems(raw: dict[str, Any]) -> Iterator[str]:
    yield from _unknown(raw, _names(PrefectYamlModel) | {"definitions"}, "")
    if "pull" not in raw:
        yield "pull: is missing, so that prefect deploy asks about it; write pull: [] if workers have the code"
    deployments = raw.get("deployments")
    if not isinstance(deployments, list) or not deployments:
        yield "deployments: must be a list of deployments"
        return
    seen = set()
    for number, deployment in enumerate(deployments):
        if not isinstance(deployment, dict) or not isinstance(deployment.get("name"), str):
            yield f"deployments[{number}]: needs a name"
            continue
        where = f"{deployment['name']}: "
        identity = (deployment.get("entrypoint"), deployment["name"])
        if identity in seen:
            yield f"{where}stands twice for the same flow: Prefect keeps the last"
        seen.add(identity)
        yield from (f"{where}{problem}" for problem in _deployment(deployment))


def _deployment(deployment: dict[str, Any]) -> Iterator[str]:
    apart = ("schedule", "schedules", "triggers", "concurrency_limit", "work_pool")
    yield from _unknown(deployment, _names(DeploymentConfig), "")
    yield from _against(DeploymentConfig, {k: v for k, v in deployment.items() if k not in apart}, "")
    if "schedule" in deployment:
        yield "schedule: is deprecated; write a list under schedules"
    if "schedules" not in deployment:
        yield "schedules: is missing, so that prefect deploy asks about it; write schedules: [] if there is none"
    yield from _schedules(deployment.get("schedules") or [])
    yield from _pool(deployment.get("work_pool"))
    yield from _limit(deployment.get("concurrency_limit"))
    yield from _secrets(deployment)
    flow = _flow(deployment.get("entrypoint"))
    if isinstance(flow, str):
        yield flow
        return
    given = deployment.get("parameters") or {}
    triggers = deployment.get("triggers") or []
    schedules = [each for each in deployment.get("schedules") or [] if isinstance(each, dict)]
    needed = bool(schedules) and not all(each.get("parameters") for each in schedules)
    yield from _parameters(flow, given, "parameters", complete=needed)
    for number, each in enumerate(schedules):
        if own := each.get("parameters"):
            yield from _parameters(flow, {**given, **own}, f"schedules[{number}].parameters", complete=True)
    for number, trigger in enumerate(triggers):
        yield from _trigger(flow, trigger, given, f"triggers[{number}].")
    yield from _says_that_it_writes(flow, deployment)


def _schedules(schedules: Any) -> Iterator[str]:
    slugs = [each.get("slug") for each in schedules if isinstance(each, dict)]
    for number, each in enumerate(schedules):
        where = f"schedules[{number}]."
        invalid = _against(RawScheduleConfig, each, where)
        yield from invalid
        if invalid:
            continue
        if not each.get("slug"):
            yield f"{where}slug: is missing; with one, deploying again changes this schedule instead of making another"
        elif slugs.count(each["slug"]) > 1:
            yield f"{where}slug: {each['slug']!r} stands twice"
        if not each.get("timezone"):
            yield f"{where}timezone: is missing; write an IANA zone such as Europe/Berlin, or UTC"
        elif each["timezone"] not in zone_names():
            yield f"{where}timezone: {each['timezone']!r} is no IANA zone{_like(each['timezone'], zone_names())}"
        try:
            if "cron" in each:
                CronSchedule(cron=each["cron"])
            elif "rrule" in each:
                RRuleSchedule(rrule=each["rrule"])
        except ValidationError:
            kind = "cron" if "cron" in each else "rrule"
            example = "five fields, such as 0 7 * * 1-5" if kind == "cron" else "RFC 5545, such as FREQ=HOURLY"
            yield f"{where}{kind}: {each[kind]!r} is none; write {example}"


def _pool(pool: Any) -> Iterator[str]:
    if not isinstance(pool, dict) or not pool.get("name"):
        yield "work_pool.name: is missing; write the name of the work pool that runs it"
        return
    yield from _against(WorkPoolConfig, pool, "work_pool.")
    known = set(ProcessWorker.get_default_base_job_template()["variables"]["properties"])
    yield from _unknown(pool.get("job_variables") or {}, known, "work_pool.job_variables.")


def _limit(limit: Any) -> Iterator[str]:
    if isinstance(limit, dict):
        yield from _unknown(limit, _names(ConcurrencyLimitSpec), "concurrency_limit.")
        yield from _against(
            ConcurrencyOptions,
            {k: v for k, v in limit.items() if k in _names(ConcurrencyOptions)},
            "concurrency_limit.",
        )
        limit = limit.get("limit")
        where = "concurrency_limit.limit"
    else:
        where = "concurrency_limit"
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        yield f"{where}: must be a whole number from 1"


def _secrets(deployment: dict[str, Any]) -> Iterator[str]:
    """Templates that are resolved when it is deployed: what they stand for is stored with the deployment."""
    for part in set(deployment) - {"build", "push", "pull", "triggers"}:
        for where, text in _texts(deployment[part], part):
            for template in _TEMPLATE.findall(text):
                if template.startswith("prefect.blocks") or (
                    template.startswith(("prefect.variables", "$")) and _SECRET_NAME.search(template)
                ):
                    instead = _REFERENCE if part == "parameters" else "a variable in the worker's own environment"
                    yield f"{where}: {{{{ {template} }}}} would be stored in clear; use {instead}"


def _texts(value: Any, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _texts(each, f"{where}.{key}")
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from _texts(each, f"{where}[{number}]")


def _flow(entrypoint: Any) -> Flow[..., Any] | str:
    if not isinstance(entrypoint, str):
        return "entrypoint: is missing; write module.function or path/to/file.py:function of a flow"
    try:
        return load_flow_from_entrypoint(entrypoint, use_placeholder_flow=False)
    except Exception as error:  # whatever the module does when it is imported
        why = " ".join(str(error).split())
        return f"entrypoint: {entrypoint!r} cannot be loaded ({type(error).__name__}: {why}); correct or install it"


# What the flow takes


def _parameters(flow: Flow[..., Any], given: dict[str, Any], where: str, *, complete: bool) -> Iterator[str]:
    known, types = inspect.signature(flow.fn).parameters, typing.get_type_hints(flow.fn, include_extras=True)
    yield from (
        f"{where}.{name}: the flow has no such parameter{_like(name, known)}" for name in given if name not in known
    )
    if complete:
        for name, parameter in known.items():
            if parameter.default is parameter.empty and name not in given:
                yield f"{where}.{name}: is missing; a run that nobody fills in a form for would fail"
    for name in set(known) & set(given):
        value, wanted = given[name], types[name]
        if _is_block(wanted) and not (isinstance(value, dict) and "$ref" in value):
            yield f"{where}.{name}: must be a saved block, {_REFERENCE}; values would be stored in clear"
            continue
        try:
            value = _with_stand_ins(value)
        except ValueError as error:
            yield f"{where}.{name}: {error}"
            continue
        try:
            TypeAdapter(wanted).validate_python(value)
        except ValidationError as error:
            yield from (re.sub(r"\.(?=[:\[])", "", f"{where}.{name}.{told}", count=1) for told in _told(error, value))


def _is_block(wanted: Any) -> bool:
    return inspect.isclass(wanted) and issubclass(wanted, Block)


def _with_stand_ins(value: Any) -> Any:
    """Put an empty block wherever a saved one is referred to."""
    if isinstance(value, list):
        return [_with_stand_ins(each) for each in value]
    if not isinstance(value, dict):
        return value
    if "$ref" not in value:
        return {key: _with_stand_ins(each) for key, each in value.items()}
    reference = value["$ref"]
    slug = reference.get("block_document_slug") if isinstance(reference, dict) else None
    if not isinstance(slug, str) or not _SLUG.fullmatch(slug):
        raise ValueError(f"a saved block is named so: {_REFERENCE}")
    try:
        return Block.get_block_class_from_key(slug.split("/")[0]).model_construct()
    except UnknownBlockType:
        raise ValueError(f"no block type {slug.split('/')[0]!r} is installed here") from None


def _trigger(flow: Flow[..., Any], trigger: Any, given: dict[str, Any], where: str) -> Iterator[str]:
    kind = trigger.get("type", "event") if isinstance(trigger, dict) else None
    if kind not in _TRIGGERS:
        yield f"{where}type: must be one of {', '.join(_TRIGGERS)}"
        return
    yield from _against(_TRIGGERS[kind], trigger, where)
    templates = trigger.get("parameters") or {}
    known = inspect.signature(flow.fn).parameters
    for name, template in templates.items():
        if name not in known:
            yield f"{where}parameters.{name}: the flow has no such parameter{_like(name, known)}"
        # Prefect makes JSON of a template that is a whole text, and fails with identifiers and times.
        elif isinstance(template, str) and re.fullmatch(r"\{\{\s*[\w.]*\bid\s*\}\}", template.strip()):
            yield f"{where}parameters.{name}: write {template.strip()[:-2].rstrip()} | string }}}}, or no run is made"
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in {**given, **templates}:
            yield f"{where}parameters.{name}: is missing; a run that nobody fills in a form for would fail"


def _says_that_it_writes(flow: Flow[..., Any], deployment: dict[str, Any]) -> Iterator[str]:
    parameter = inspect.signature(flow.fn).parameters.get("dry_run")
    if parameter is None or (deployment.get("parameters") or {}).get("dry_run", parameter.default) is not False:
        return
    if "writes" not in (deployment.get("tags") or []):
        yield "tags: dry_run is false here; add the tag writes, or set dry_run to true"
    if "WRITES" not in (deployment.get("description") or ""):
        yield "description: dry_run is false here; say what it WRITES, or set dry_run to true"


# What Prefect reads


def _names(model: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


def _unknown(given: Any, known: set[str], where: str) -> list[str]:
    if not isinstance(given, dict):
        return [f"{where.rstrip('.') or 'the file'}: must be a mapping"]
    return [f"{where}{key}: Prefect does not read this{_like(key, known)}" for key in given if key not in known]


def _like(name: Any, known: typing.Iterable[str]) -> str:
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _against(model: type[BaseModel], given: Any, where: str) -> list[str]:
    """Validate, and find keys that the model ignores, in what is nested too."""
    try:
        read = model.model_validate(given)
    except ValidationError as error:
        return [f"{where}{told}" for told in _told(error, given, _names(model))]
    return list(_ignored(given, read, where))


def _told(error: ValidationError, given: Any, known: typing.Iterable[str] = ()) -> Iterator[str]:
    """Where in what was given the mistakes are, and what they are; never what was given."""
    errors = error.errors(include_input=False, include_url=False)
    # Pydantic tells why each kind of action or trigger is none: only the kind that was meant is of interest.
    kinds = [each for each in errors if each["type"] == "literal_error" and each["loc"][-1] == "type"]
    meant = [
        each for each in errors if not any(each["loc"][: len(kind["loc"]) - 1] == kind["loc"][:-1] for kind in kinds)
    ]
    if kinds and not meant:
        expected = ", ".join(kind["ctx"]["expected"] for kind in kinds)
        kinds[0]["msg"] = f"must be one of {expected}"
        meant = kinds[:1]
    for each in meant:
        place, here, ignored = "", given, each["type"] == "extra_forbidden"
        for part in each["loc"]:
            if isinstance(here, dict) and part in here:
                place, here = f"{place}.{part}", here[part]
            elif isinstance(here, list) and isinstance(part, int):
                place, here = f"{place}[{part}]", here[part]
            elif each["type"] == "missing":
                place += f".{part}"
        said = "Prefect does not read this" + _like(each["loc"][-1], known) if ignored and known else each["msg"]
        yield f"{place.lstrip('.')}: {said}"


def _ignored(given: Any, read: Any, where: str) -> Iterator[str]:
    if isinstance(read, RootModel):  # labels of the user's own
        return
    if isinstance(read, BaseModel) and isinstance(given, dict):
        names = {field.alias or name: name for name, field in type(read).model_fields.items()}
        yield from _unknown(given, set(names), where)
        for key in set(given) & set(names):
            yield from _ignored(given[key], getattr(read, names[key]), f"{where}{key}.")
    elif isinstance(read, list) and isinstance(given, list):
        for number, (one, other) in enumerate(zip(given, read, strict=False)):
            yield from _ignored(one, other, f"{where.rstrip('.')}[{number}].")


# What the server has


async def _missing(client: PrefectClient, deployments: list[dict[str, Any]], pools: bool) -> typing.AsyncIterator[str]:
    for pool in sorted({each["work_pool"]["name"] for each in deployments}) if pools else []:
        try:
            found = await client.read_work_pool(pool)
        except ObjectNotFound:
            yield f"work pool {pool}: does not exist; make it: prefect work-pool create {pool} --type process"
        else:
            if found.is_paused:
                yield f"work pool {pool}: is paused; resume it: prefect work-pool resume {pool}"
    for slug in sorted({slug for each in deployments for slug in _references(each)}):
        kind, name = slug.split("/")
        try:
            await client.read_block_document_by_name(name, kind, include_secrets=False)
        except ObjectNotFound:
            yield f"block {slug}: does not exist; save it in the UI (Blocks), or with the block's .save({name!r})"


def _references(value: Any) -> Iterator[str]:
    """Types and names of all blocks that a deployment refers to."""
    if isinstance(value, dict):
        for key, each in value.items():
            if key in ("block_document_slug", "notify") and isinstance(each, str):
                yield each
            else:
                yield from _references(each)
    elif isinstance(value, list):
        for each in value:
            yield from _references(each)


if __name__ == "__main__":
    sys.exit(main())
