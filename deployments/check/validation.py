"""Compare what is written with a model: unknown keys and wrong values, one line for each, without the values."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, RootModel, ValidationError

from deployments.files import read_yaml
from deployments.schema import keys_of


def read(path: Path) -> dict[str, Any] | str:
    """Return the mapping of a YAML file, or what is wrong with the file."""
    try:
        raw = read_yaml(path)
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        return f"{path.name}: cannot be read: {' '.join(str(error).split())}"
    return raw if isinstance(raw, dict) else f"{path.name}: must be a mapping"


def unknown_keys(given: Any, known: set[str], where: str) -> list[str]:
    """Name the keys that Prefect ignores.

    Args:
        given: What is written.
        known: The keys that Prefect reads.
        where: Where it is written, ending with a dot; empty at the top of the file.
    """
    if not isinstance(given, dict):
        return [f"{where.rstrip('.') or 'the file'}: must be a mapping"]
    return [f"{where}{key}: Prefect does not read this{did_you_mean(key, known)}" for key in given if key not in known]


def texts_of(value: Any, where: str) -> Iterator[tuple[str, str]]:
    """Yield each text within a value, and where it is."""
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from texts_of(each, f"{where}.{key}")
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from texts_of(each, f"{where}[{number}]")


def did_you_mean(name: Any, known: Iterable[str]) -> str:
    """Return the end of a sentence that suggests the most similar known name; empty if none is similar."""
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def problems_against(model: type[BaseModel], given: Any, where: str) -> list[str]:
    """Name wrong values, and keys that the model ignores, also in what is nested.

    Args:
        model: What Prefect reads.
        given: What is written.
        where: As in `unknown_keys`.
    """
    try:
        parsed = model.model_validate(given)
    except ValidationError as error:
        return list(error_lines(error, given, where, keys_of(model)))
    return list(_ignored(given, parsed, where))


def _ignored(given: Any, parsed: Any, where: str) -> Iterator[str]:
    if isinstance(parsed, RootModel):  # labels, which have names of the user's own
        return
    if isinstance(parsed, BaseModel) and isinstance(given, dict):
        names = {field.alias or name: name for name, field in type(parsed).model_fields.items()}
        yield from unknown_keys(given, set(names), where)
        for key in set(given) & set(names):
            yield from _ignored(given[key], getattr(parsed, names[key]), f"{where}{key}.")
    elif isinstance(parsed, list) and isinstance(given, list):
        for number, (one, other) in enumerate(zip(given, parsed, strict=False)):
            yield from _ignored(one, other, f"{where.rstrip('.')}[{number}].")


def error_lines(error: ValidationError, given: Any, where: str, known: Iterable[str] = ()) -> Iterator[str]:
    """Return pydantic's errors, one line for each: where it is and what is wrong; never the value.

    Args:
        error: What pydantic raised.
        given: What was validated.
        where: As in `unknown_keys`.
        known: Keys to suggest instead of an unknown one.
    """
    for each in _of_the_meant_kind(error):
        unknown_key = each["type"] == "extra_forbidden" and known
        said = f"Prefect does not read this{did_you_mean(each['loc'][-1], known)}" if unknown_key else each["msg"]
        place = _place(each, given)
        yield f"{where.rstrip('.') if place[:1] in ('', '[') else where}{place}: {said}"


def _of_the_meant_kind(error: ValidationError) -> list[Any]:
    """Leave out why something is not each of the kinds of trigger or action that it was not meant to be."""
    errors: list[Any] = error.errors(include_input=False, include_url=False)
    other_kinds = [each for each in errors if each["type"] == "literal_error" and each["loc"][-1] == "type"]
    not_meant = [kind["loc"][:-1] for kind in other_kinds]
    meant = [each for each in errors if not any(each["loc"][: len(path)] == path for path in not_meant)]
    if other_kinds and not meant:  # then the type itself is wrong
        expected = ", ".join(kind["ctx"]["expected"] for kind in other_kinds)
        return [{**other_kinds[0], "msg": f"must be one of {expected}"}]
    return meant


def _place(error: Any, given: Any) -> str:
    """Return where in `given` an error is; pydantic's own path also names the models of a union."""
    place, here = "", given
    for part in error["loc"]:
        if isinstance(here, dict) and part in here:
            place, here = f"{place}.{part}", here[part]
        elif isinstance(here, list) and isinstance(part, int):
            place, here = f"{place}[{part}]", here[part]
        elif error["type"] == "missing":
            place += f".{part}"
    return place.lstrip(".")
