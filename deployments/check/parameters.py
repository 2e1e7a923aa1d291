"""Check parameters and triggers of a deployment against its flow."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Iterator
from typing import Any

from prefect import Flow
from prefect.blocks.core import Block, UnknownBlockType
from pydantic import TypeAdapter, ValidationError

from deployments.check.automations import BLOCK_SLUG
from deployments.check.validation import did_you_mean, error_lines, problems_against
from deployments.schema import TRIGGERS

BLOCK_REFERENCE = "{$ref: {block_document_slug: <type>/<name>}}"
_MISSING = "is missing; a run that nobody fills in a form for would fail"


def parameter_problems(flow: Flow[..., Any], given: dict[str, Any], where: str, *, complete: bool) -> Iterator[str]:
    """Say which parameters a flow does not take.

    Args:
        flow: The flow.
        given: Parameters as they are written.
        where: Where they are written.
        complete: Whether all that have no default must be there.
    """
    known, types = inspect.signature(flow.fn).parameters, typing.get_type_hints(flow.fn, include_extras=True)
    for name in given:
        if name not in known:
            yield f"{where}.{name}: the flow has no such parameter{did_you_mean(name, known)}"
    if complete:
        for name, parameter in known.items():
            if parameter.default is parameter.empty and name not in given:
                yield f"{where}.{name}: {_MISSING}"
    for name in set(known) & set(given):
        yield from _value_problems(types[name], given[name], f"{where}.{name}")


def _value_problems(wanted: Any, value: Any, where: str) -> Iterator[str]:
    is_block = inspect.isclass(wanted) and issubclass(wanted, Block)
    if is_block and not (isinstance(value, dict) and "$ref" in value):
        yield f"{where}: must be a saved block, {BLOCK_REFERENCE}; values would be stored in clear"
        return
    try:
        value = _with_stand_ins(value)
    except ValueError as error:
        yield f"{where}: {error}"
        return
    try:
        TypeAdapter(wanted).validate_python(value)
    except ValidationError as error:
        yield from error_lines(error, value, f"{where}.")


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
    if not isinstance(slug, str) or not BLOCK_SLUG.fullmatch(slug):
        raise ValueError(f"refer to a saved block by {BLOCK_REFERENCE}")
    try:
        return Block.get_block_class_from_key(slug.split("/")[0]).model_construct()
    except UnknownBlockType:
        raise ValueError(f"no block type {slug.split('/')[0]!r} is installed here") from None


def trigger_problems(flow: Flow[..., Any], trigger: Any, given: dict[str, Any], where: str) -> Iterator[str]:
    """Say what is wrong with a trigger.

    Args:
        flow: The flow that it starts.
        trigger: As it is written.
        given: The parameters of the deployment.
        where: Where it is written, ending with a dot.
    """
    kind = trigger.get("type", "event") if isinstance(trigger, dict) else None
    if kind not in TRIGGERS:
        yield f"{where}type: must be one of {', '.join(TRIGGERS)}"
        return
    yield from problems_against(TRIGGERS[kind], trigger, where)
    templates = trigger.get("parameters") or {}
    known = inspect.signature(flow.fn).parameters
    for name, template in templates.items():
        if name not in known:
            yield f"{where}parameters.{name}: the flow has no such parameter{did_you_mean(name, known)}"
        # Prefect makes JSON of the value of a template that is a whole text, and fails with IDs and times.
        elif isinstance(template, str) and re.fullmatch(r"\{\{\s*[\w.]*\bid\s*\}\}", template.strip()):
            yield f"{where}parameters.{name}: write {template.strip()[:-2].rstrip()} | string }}}}, or no run is made"
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in {**given, **templates}:
            yield f"{where}parameters.{name}: {_MISSING}"
