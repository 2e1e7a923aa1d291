"""What the design promises: who may import whom, what nobody imports, and how long a file may be."""

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import prefect_calendly
from tests.support import ROOT

PACKAGE = "prefect_calendly"

# From the bottom to the top. A part may import those below its layer; parts of one layer import nothing of each other,
# but for the resources, which name each other's models.
RESOURCES = (
    *("users", "organizations", "groups", "event_types", "availability", "scheduled_events", "invitees"),
    *("scheduling_links", "routing_forms", "contacts", "meeting_recaps", "webhook_subscriptions"),
    *("connections", "triggers", "api"),
)
LAYERS = (
    ("about",),
    ("client",),
    ("resource", "shared_pace"),
    ("credentials",),
    (PACKAGE,),  # what `from prefect_calendly import …` gives
    ("tasks", "saved_credentials"),
    RESOURCES,
    ("check", "events", "runs", "deploy_steps"),
    ("bookings", "webhooks", "account_page"),
    ("digest", "screening", "subscription", "warehouse"),
    ("flows",),
    ("init",),
    ("cli",),
    ("deployments",),
)
# The sandbox stands beside them: it imports nothing of ours, and only these import it.
SANDBOX = "sandbox"
USES_SANDBOX = ("cli", "deployments", "init")
WITHOUT_PREFECT = ("about", "client", "resource", SANDBOX)

# Not for others to import, whatever else Prefect documents; anything that begins with an underscore is not either.
INTERNALS_OF_PREFECT = ("prefect.cli", "prefect.server", "prefect.testing")

MOST_LINES = 400
LONGER = {
    "prefect_calendly.invitees": "`create_invitee` has sixteen arguments to document, and all of them to check",
    "prefect_calendly.sandbox.sandbox_control": "one documented method for each call of the control surface",
}


@cache
def modules() -> dict[str, Path]:
    """The files of the package, the flows and the deployments, by the names of their modules."""
    found = {}
    for folder in (PACKAGE, "flows", "deployments"):
        for path in sorted((ROOT / folder).glob("**/*.py")):
            if "templates" not in path.parts:  # those are of the projects that `init` makes
                name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
                found[name.removesuffix(".__init__")] = path
    return found


def imports_of(module: str) -> Iterator[str]:
    """What a module imports anywhere, in functions and for its types too; each with the name that it takes."""
    path = modules()[module]
    package = module if path.stem == "__init__" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*parents, *([node.module] if node.module else [])])
            yield from (f"{source}.{alias.name}" for alias in node.names)


@cache
def graph() -> dict[str, set[str]]:
    """Our modules, each with those of ours that it imports."""
    found: dict[str, set[str]] = {module: set() for module in modules()}
    for module in modules():
        for name in imports_of(module):
            imported = next((each for each in (name, name.rpartition(".")[0]) if each in modules()), module)
            if imported != module:
                found[module].add(imported)
    return found


def part_of(module: str) -> str:
    """The part of the house that a module belongs to: `client`, `users`, `flows`, …"""
    first, *rest = module.split(".")
    return rest[0] if first == PACKAGE and rest else first


def layer_of(part: str) -> int:
    return next(number for number, parts in enumerate(LAYERS) if part in parts)


def test_every_part_of_the_house_has_its_layer() -> None:
    listed = {part for parts in LAYERS for part in parts} | {SANDBOX}
    assert {part_of(module) for module in modules()} <= listed


@pytest.mark.parametrize("module", [module for module in modules() if part_of(module) != SANDBOX])
def test_imports_follow_the_arrows(module: str) -> None:
    part = part_of(module)
    for imported in graph()[module]:
        its = part_of(imported)
        if its == SANDBOX:
            assert part in USES_SANDBOX, f"{module} imports the sandbox"
        elif its != part:
            allowed = layer_of(its) < layer_of(part) or {its, part} <= set(RESOURCES)
            assert allowed, f"{module} imports {imported}, which is not below it"


@pytest.mark.parametrize("module", [module for module in modules() if part_of(module) == SANDBOX])
def test_the_sandbox_imports_nothing_of_ours(module: str) -> None:
    assert {part_of(imported) for imported in graph()[module]} <= {SANDBOX}
    if ".deliveries." not in module:
        assert "httpx" not in {name.split(".")[0] for name in imports_of(module)}, (
            "only deliveries go out of the sandbox"
        )


def test_no_module_imports_itself_through_others() -> None:
    assert sum(map(len, graph().values())) > len(graph())
    try:
        TopologicalSorter(graph()).prepare()
    except CycleError as error:
        pytest.fail(" is imported by ".join(error.args[1]))


def test_no_flow_imports_another_flow() -> None:
    for module, imported in graph().items():
        if module.startswith("flows."):
            assert not {name for name in imported if name.startswith("flows.")}, module


@pytest.mark.parametrize("part", WITHOUT_PREFECT)
def test_what_anybody_can_use_without_prefect_knows_none(part: str) -> None:
    its = [module for module in modules() if part_of(module) == part]
    assert its
    for module in its:
        assert not {name for name in imports_of(module) if name.split(".")[0] == "prefect"}, module


def test_nothing_of_prefect_is_imported_that_is_not_for_others() -> None:
    for module in modules():
        for name in imports_of(module):
            first, *rest = name.split(".")
            if first == "prefect":
                assert not any(word.startswith("_") for word in rest), f"{module} imports {name}"
                assert f"prefect.{rest[0] if rest else ''}" not in INTERNALS_OF_PREFECT, f"{module} imports {name}"


def test_a_file_has_one_subject_and_so_it_is_short() -> None:
    for module, path in modules().items():
        lines = len(path.read_text().splitlines())
        assert lines <= (500 if module in LONGER else MOST_LINES), f"{path.relative_to(ROOT)} has {lines} lines"


def test_prefect_finds_the_collection_and_type_checkers_the_types() -> None:
    (found,) = entry_points(group="prefect.collections", name="prefect_calendly")
    assert found.load().CalendlyCredentials is prefect_calendly.CalendlyCredentials
    assert (Path(prefect_calendly.__file__).parent / "py.typed").exists()
