"""What the design promises about who imports whom, and what is in the package."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import prefect_calendly
from tests.support import ROOT

PACKAGE = Path(prefect_calendly.__file__).parent
WITHOUT_PREFECT = [
    *(f"client/{path.stem}" for path in sorted(PACKAGE.glob("client/*.py"))),
    "about",
    "resource",
    "sync",
]


def imports_of(path: Path) -> set[str]:
    """Names of all modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            within = path.parent.relative_to(PACKAGE.parent).as_posix().replace("/", ".")
            assert node.level <= 1, f"{path.name} reaches out of its folder"
            found.add(f"{within}.{node.module or ''}" if node.level else node.module or "")
    return found


@pytest.mark.parametrize("module", WITHOUT_PREFECT)
def test_the_client_and_what_it_uses_know_no_prefect(module: str) -> None:
    for name in imports_of(PACKAGE / f"{module}.py"):
        assert name.split(".")[0] != "prefect"
        if name.startswith("prefect_calendly."):
            within = name.removeprefix("prefect_calendly.").replace(".", "/")
            assert within in WITHOUT_PREFECT or f"{within}/__init__" in WITHOUT_PREFECT


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("sandbox/**/*.py")), ids=lambda path: path.stem)
def test_the_sandbox_imports_nothing_of_the_client(path: Path) -> None:
    for name in imports_of(path):
        assert name.split(".")[0] != "prefect"
        assert not name.startswith("prefect_calendly") or name.startswith("prefect_calendly.sandbox")
        assert name != "httpx" or path.parent.name == "deliveries", "only deliveries go out of the sandbox"


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.stem)
def test_the_library_imports_nothing_of_the_sandbox_nor_prefect_internals(path: Path) -> None:
    for name in imports_of(path):
        assert not name.startswith("prefect_calendly.sandbox")
        assert not name.startswith("prefect._internal")


# Modules that still import themselves through others: to be emptied.
KNOWN_CIRCLES = {"prefect_calendly.credentials"}


def modules() -> dict[str, Path]:
    """The files of the package, the flows and the deployments, by the names of their modules."""
    found = {}
    for folder in ("prefect_calendly", "flows", "deployments"):
        for path in sorted((ROOT / folder).glob("**/*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


def import_graph() -> dict[str, set[str]]:
    """Our modules, each with those of ours that it imports anywhere: at the top, in a function, or for its types."""
    files = modules()
    graph: dict[str, set[str]] = {name: set() for name in files}
    for name, path in files.items():
        package = name if path.stem == "__init__" else name.rpartition(".")[0]
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                graph[name] |= {alias.name for alias in node.names} & files.keys()
            elif isinstance(node, ast.ImportFrom):
                base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
                source = ".".join(part for part in (base, node.module) if part)
                for alias in node.names:  # a module of a package, or what a module defines
                    graph[name] |= {next((n for n in (f"{source}.{alias.name}", source) if n in files), name)} - {name}
    return graph


def test_no_module_imports_itself_through_others() -> None:
    graph = {name: found - KNOWN_CIRCLES for name, found in import_graph().items() if name not in KNOWN_CIRCLES}
    assert sum(map(len, graph.values())) > len(graph)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" is imported by ".join(error.args[1]))


@pytest.mark.parametrize("folder", ["prefect_calendly", "flows", "deployments"])
def test_nothing_imports_prefects_internals(folder: str) -> None:
    paths = sorted((ROOT / folder).rglob("*.py"))
    assert paths
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            for name in names:
                first, *others = name.split(".")
                private = others[:1] == ["cli"] or any(part.startswith("_") for part in others)
                assert first != "prefect" or not private, f"{path.relative_to(ROOT)} imports {name}"


def test_prefect_finds_the_collection_and_type_checkers_the_types() -> None:
    (found,) = entry_points(group="prefect.collections", name="prefect_calendly")
    assert found.load().CalendlyCredentials is prefect_calendly.CalendlyCredentials
    assert (PACKAGE / "py.typed").exists()


# What the linter must find in our code, each by its rule.
FORBIDDEN = {
    "httpx.get('https://x.example', verify=False, timeout=1)": "S501",
    "httpx.AsyncClient(verify=False)": "S501",
    "ssl._create_unverified_context()": "S323",
    "subprocess.run(f'ls {name}', shell=True)": "S602",
    "os.system(name)": "S605",
    "os.popen(name)": "S605",
    "eval(name)": "S307",
    "pickle.loads(name)": "S301",
    "yaml.load(name)": "S506",
    "token = 'b7e1c0'": "S105",
}


def rules_that_find(code: str, path: str) -> set[str]:
    command = [sys.executable, "-m", "ruff", "check", "--output-format", "concise"]
    done = subprocess.run(
        [*command, "--stdin-filename", path, "-"], input=code, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode in (0, 1), done.stderr
    return {line.split()[1] for line in done.stdout.splitlines() if line.startswith(path)}


@pytest.mark.parametrize("folder", ["prefect_calendly", "prefect_calendly/sandbox", "flows", "deployments"])
def test_the_linter_lets_no_shell_and_no_unchecked_certificate_pass(folder: str) -> None:
    modules = "import os\nimport pickle\nimport ssl\nimport subprocess\n\nimport httpx\nimport yaml\n\nname = input()\n"
    found = rules_that_find(modules + "\n".join(FORBIDDEN), f"{folder}/planted.py")
    assert found >= set(FORBIDDEN.values())


def test_nobody_excuses_a_line_from_these_rules_tests_neither() -> None:
    rules = "S323,S501,S602,S604,S605"
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--isolated",
        "--ignore-noqa",
        "--no-cache",
        "--select",
        rules,
        ".",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
