"""The parameter forms of flows: what a person is told about a wrong entry."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import pytest
from prefect import Flow
from pydantic import Field

from prefect_calendly.flows import FOLDER
from prefect_calendly.runs.forms import Parameters, form_pattern
from tests.support import form_errors

FLOWS = sorted(path.stem for path in FOLDER.glob("[!_]*.py"))


def patterns(schema: Any) -> Iterator[str]:
    """The patterns of a schema that Prefect would show to a person."""
    if isinstance(schema, dict):
        if isinstance(schema.get("pattern"), str):
            yield schema["pattern"]
        for key, part in schema.items():
            if key != "if":
                yield from patterns(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from patterns(part)


@pytest.mark.parametrize("name", FLOWS)
def test_no_form_answers_with_a_regular_expression(name: str) -> None:
    module = importlib.import_module(f"prefect_calendly.flows.{name}")
    found = [item for item in vars(module).values() if isinstance(item, Flow)]
    assert found
    for flow in found:
        assert list(patterns(flow.parameters.model_dump())) == []


def test_a_text_that_does_not_match_is_answered_with_what_is_wanted() -> None:
    class Form(Parameters):
        word: str = Field(json_schema_extra=form_pattern("^[a-z]+$", "lowercase letters"))

    assert form_errors(Form, word="abc") == []
    assert form_errors(Form, word="ABC") == ["'lowercase letters' was expected"]
