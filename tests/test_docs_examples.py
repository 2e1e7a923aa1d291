"""Every example in a docstring runs as it stands, so that a reader may paste it."""

import ast
import asyncio
import builtins
import doctest
import functools
import inspect
import json
import re
from types import ModuleType
from typing import Any

import pytest

from prefect_calendly import CalendlyClient, CalendlyCredentials
from prefect_calendly.sandbox import Sandbox
from tests.doc_examples import documented, examples, modules, own, tasks
from tests.fixtures import credentials_for
from tests.webhooks.examples import delivered

# It needs a receiver at a public address.
_NOT_RUN = ("probe.ping_receiver",)
EXAMPLES = {name: code for name, item in documented() if name not in _NOT_RUN for code in examples(item)}
TASKS = {name: task for module in modules() for name, task in tasks(module).items()}


def run(code: str, namespace: dict[str, Any]) -> None:
    """Run code that may await at its top level."""
    compiled = compile(code, "example", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if compiled.co_flags & inspect.CO_COROUTINE:
        asyncio.run(eval(compiled, namespace))
    else:
        exec(compiled, namespace)


def namespace_for(sandbox: Sandbox, credentials: CalendlyCredentials) -> dict[str, Any]:
    """What an example may take for granted: the package's names, credentials, a key, and the body of a delivery."""
    names = {name: item for module in modules() for name, item in own(module).items()}
    # Sync tasks run without Prefect; the async ones stay tasks.
    names |= {name: task.fn for name, task in TASKS.items() if f"a{name}" in TASKS}
    names["CalendlyClient"] = functools.partial(CalendlyClient, gateway_url=sandbox.gateway_url)
    given = {"api_key": sandbox.api_key, "credentials": credentials, "body": json.dumps(delivered("invitee.created"))}
    return {**names, **given, "print": lambda *values: None}


@pytest.fixture
def credentials(sandbox: Sandbox) -> CalendlyCredentials:
    """Of both hosts: the client appends `/connections` itself."""
    return credentials_for(sandbox, connections_url=sandbox.url)


def test_every_endpoint_s_task_and_its_twin_have_one_example() -> None:
    twins = {name: task for name, task in TASKS.items() if f"a{name}" in TASKS}
    assert len(twins) >= 22
    for name, task in twins.items():
        assert len(examples(task.fn)) == 1, name
        assert TASKS[f"a{name}"].fn.__doc__ == task.fn.__doc__


@pytest.mark.parametrize("name", [name for name, code in EXAMPLES.items() if "BLOCK_NAME" not in code])
@pytest.mark.usefixtures("inline")
def test_an_example_runs_as_it_stands(name: str, sandbox: Sandbox, credentials: CalendlyCredentials) -> None:
    run(EXAMPLES[name], namespace_for(sandbox, credentials))
    stats = sandbox.stats()
    assert stats["requests"] > 0 or name.rpartition(".")[2] not in TASKS
    assert stats["unknown_parameters"] == []


@pytest.mark.parametrize("name", [name for name, code in EXAMPLES.items() if "BLOCK_NAME" in code])
@pytest.mark.usefixtures("inline")
def test_an_example_with_a_saved_block_runs(name: str, sandbox: Sandbox, credentials: CalendlyCredentials) -> None:
    credentials.save("docs-example", overwrite=True)
    code = EXAMPLES[name].replace("BLOCK_NAME", "docs-example")
    flows = re.findall(r"^@flow\ndef (\w+)\(\) -> .*:$", code, re.MULTILINE)
    # Nothing but what the example itself imports, where it imports anything.
    namespace = {"__builtins__": builtins} if flows else {**namespace_for(sandbox, credentials), "print": print}
    run(code + "".join(f"\nresult = {name}()" for name in flows), namespace)
    assert sandbox.stats()["requests"] > 0
    assert "result" not in namespace or namespace["result"]


@pytest.mark.parametrize("module", list(modules()), ids=lambda module: module.__name__)
def test_interactive_examples_show_what_is_true(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0
