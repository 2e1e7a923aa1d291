"""What is installed: metadata that say the same as the code, and flows that import from wherever they are.

That the wheel has the flows' files, and that they run from there, is proven by `make wheel-test`.
"""

import ast
import importlib
import pkgutil
import re
import tomllib
from pathlib import Path

import pytest
from prefect import Flow

import prefect_calendly
from deployments.check.prefect_yaml import problems
from prefect_calendly import CalendlyCredentials
from prefect_calendly.about import DOCUMENTATION_URL, __version__
from prefect_calendly.flows import DEPLOYMENTS, FOLDER
from tests.support import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
FLOW_FILES = sorted(path for path in (ROOT / "flows").glob("*.py") if path.stem != "__init__")


def test_version_and_documentation_have_one_place() -> None:
    assert "version" not in PROJECT
    assert PROJECT["dynamic"] == ["version"]
    assert PYPROJECT["tool"]["hatch"]["version"]["path"] == "prefect_calendly/about.py"
    assert prefect_calendly.__version__ == __version__
    assert PROJECT["urls"]["Documentation"] == DOCUMENTATION_URL
    assert str(CalendlyCredentials._documentation_url).rstrip("/") == DOCUMENTATION_URL
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_every_python_from_3_11_to_3_14_is_named() -> None:
    named = [re.search(r":: (3\.\d+)$", each) for each in PROJECT["classifiers"]]
    assert [each[1] for each in named if each] == ["3.11", "3.12", "3.13", "3.14"]


def test_in_a_clone_the_flows_are_imported_from_where_they_are_edited() -> None:
    assert ROOT / "flows" == FOLDER
    assert ROOT / "deployments" / "prefect.yaml" == DEPLOYMENTS
    assert not list((ROOT / "prefect_calendly" / "flows").glob("[!_]*.py"))
    module = importlib.import_module("prefect_calendly.flows.cancel_blocked_domains")
    assert module.__file__ == str(ROOT / "flows" / "cancel_blocked_domains.py")


@pytest.mark.parametrize("path", FLOW_FILES, ids=lambda path: path.stem)
def test_a_flow_file_has_its_flow_and_imports_nothing_but_packages(path: Path) -> None:
    flow = getattr(importlib.import_module(f"prefect_calendly.flows.{path.stem}"), path.stem)
    assert isinstance(flow, Flow)
    for node in ast.walk(ast.parse(path.read_text())):
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for module in modules:
            assert not module.startswith(("flows", "deployments", "tests")), f"{path.name} imports {module}"


def test_the_deployment_that_the_readme_shows_is_one(tmp_path: Path) -> None:
    (shown,) = re.findall(r"^```yaml\n(pull:.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "prefect.yaml").write_text(shown)
    assert problems(tmp_path / "prefect.yaml") == []


def test_the_module_entrypoints_are_listed_by_the_package() -> None:
    package = importlib.import_module("prefect_calendly.flows")
    assert sorted(found.name for found in pkgutil.iter_modules(package.__path__)) == [f.stem for f in FLOW_FILES]
