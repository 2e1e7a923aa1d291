"""Prefect finds the files of flows from the project root, as somebody who deploys is there."""

import pytest

from deployments.files import ROOT


@pytest.fixture(autouse=True)
def _in_the_project_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PWD", str(ROOT))
