"""What the design promises about who imports whom, and what is in the package."""

import ast
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import prefect_calendly

PACKAGE = Path(prefect_calendly.__file__).parent
WITHOUT_PREFECT = ["client", "errors", "identifiers", "pace", "resource", "sync"]


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
            assert name.removeprefix("prefect_calendly.") in WITHOUT_PREFECT


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("sandbox/*.py")), ids=lambda path: path.stem)
def test_the_sandbox_imports_nothing_of_the_client(path: Path) -> None:
    for name in imports_of(path):
        assert name.split(".")[0] != "prefect"
        assert not name.startswith("prefect_calendly") or name.startswith("prefect_calendly.sandbox")


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.stem)
def test_the_library_imports_nothing_of_the_sandbox_nor_prefect_internals(path: Path) -> None:
    for name in imports_of(path):
        assert not name.startswith("prefect_calendly.sandbox")
        assert not name.startswith("prefect._internal")


def test_prefect_finds_the_collection_and_type_checkers_the_types() -> None:
    (found,) = entry_points(group="prefect.collections", name="prefect_calendly")
    assert found.load().CalendlyCredentials is prefect_calendly.CalendlyCredentials
    assert (PACKAGE / "py.typed").exists()
