"""Serve the deployments from this process, without work pool and workers: `python -m deployments.serve [file]`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import yaml

from deployments.files import FILE, deployments_of, read_yaml

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.deployments.runner import RunnerDeployment
    from prefect.schedules import Schedule


def runner_deployment(deployment: dict[str, Any]) -> RunnerDeployment:
    """Convert a deployment of the file to one that a process can serve; its work pool is left out.

    Args:
        deployment: A deployment that `deployments.check` finds no problem in.

    Returns:
        The argument for `prefect.serve`.
    """
    from prefect.client.schemas.objects import ConcurrencyLimitConfig
    from prefect.flows import load_flow_from_entrypoint
    from prefect.schedules import Cron, Interval, RRule
    from prefect.types.entrypoint import EntrypointType

    from deployments.schema import trigger_of

    def schedule(written: dict[str, Any]) -> Schedule:
        kind = next(kind for kind in ("cron", "interval", "rrule") if kind in written)
        others = {key: value for key, value in written.items() if key != kind}
        makers: dict[str, Callable[..., Schedule]] = {"cron": Cron, "interval": Interval, "rrule": RRule}
        return makers[kind](written[kind], **others)

    limit = deployment.get("concurrency_limit")
    module = ":" not in deployment["entrypoint"]
    unchanged = ("description", "enforce_parameter_schema", "parameters", "paused", "tags", "version")
    flow: Flow[..., Any] = load_flow_from_entrypoint(deployment["entrypoint"], use_placeholder_flow=False)
    made = flow.to_deployment(
        deployment["name"],
        schedules=[schedule(each) for each in deployment.get("schedules") or []],
        concurrency_limit=ConcurrencyLimitConfig(**limit) if isinstance(limit, dict) else limit,
        triggers=[trigger_of(each) for each in deployment.get("triggers") or []],
        entrypoint_type=EntrypointType.MODULE_PATH if module else EntrypointType.FILE_PATH,
        **{key: deployment[key] for key in unchanged if key in deployment},
    )
    return cast("RunnerDeployment", made)  # a coroutine only where an event loop runs


def main() -> int:
    """Serve until stopped; if that is impossible, print the problems, one a line, and return 1."""
    parser = argparse.ArgumentParser(prog="python -m deployments.serve", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=FILE)
    parser.add_argument("--limit", type=int, help="flow runs at once (default: Prefect's)")
    options = parser.parse_args()
    os.environ.setdefault("PREFECT_RUNNER_POLL_FREQUENCY", "2")  # screen a booking within seconds
    _environment_of_runs(options.file)

    from prefect import serve

    from deployments.check import prefect_yaml, server

    found = prefect_yaml.problems(options.file) or asyncio.run(server.problems(options.file, pools=False))
    if found:
        print(*found, sep="\n", file=sys.stderr)
        return 1
    serve(*map(runner_deployment, deployments_of(options.file, server=True)), limit=options.limit)
    return 0


def _environment_of_runs(path: Path) -> None:
    """Set the variables of `work_pool.job_variables.env`, before Prefect is imported and reads its settings."""
    wrong = (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError)  # the check reports it
    with contextlib.suppress(*wrong):
        for deployment in read_yaml(path)["deployments"]:
            variables = (deployment.get("work_pool") or {}).get("job_variables") or {}
            for name, value in (variables.get("env") or {}).items():
                os.environ.setdefault(name, str(value))


if __name__ == "__main__":
    sys.exit(main())
