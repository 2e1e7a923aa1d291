"""Field types and settings of the parameter forms of flows."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from prefect_calendly.resource import zone_names

_BLOCK_REFERENCE = re.compile(r"[a-z0-9-]+/[a-z0-9-]+")


class Parameters(BaseModel):
    """Base of parameter models: immutable, unknown fields are errors, and errors do not show the input."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def _zone_name(name: str) -> str:
    if name not in zone_names():
        raise ValueError("must be an IANA time zone such as Europe/Berlin or America/New_York")
    return name


def _block_reference(reference: str) -> str:
    if not _BLOCK_REFERENCE.fullmatch(reference):
        raise ValueError("must be the type and name of a saved block, such as slack-webhook/ops")
    return reference


def optional_form_field(position: int) -> Callable[[dict[str, Any]], None]:
    """Show an optional field as one that may stay empty; Prefect's form would offer a choice of types.

    Args:
        position: Place in the form, from 0.

    Returns:
        A value for `json_schema_extra`.
    """

    def change(schema: dict[str, Any]) -> None:
        # The form would send a default of null, which the rest of the schema does not allow.
        schema.pop("default", None)
        schema.update(next(kind for kind in schema.pop("anyOf") if kind.get("type") != "null"), position=position)

    return change


def form_pattern(pattern: str, wanted: str) -> dict[str, Any]:
    """Let Prefect's form refuse a text that does not match; it then says that what is wanted "was expected".

    Of a plain `pattern` in the schema, it would show the regular expression.

    Args:
        pattern: Regular expression that is searched in the text.
        wanted: What to enter, such as `a domain such as spam.example`.

    Returns:
        A part of a JSON schema, for `json_schema_extra`.

    Example:
        >>> form_pattern(r"^[a-z]+$", "lowercase letters")
        {'if': {'pattern': '^[a-z]+$'}, 'else': {'const': 'lowercase letters'}}
    """
    return {"if": {"pattern": pattern}, "else": {"const": wanted}}


def empty_is_none(value: Any) -> Any:
    """Return None for an empty text: a form sends one for a field that was filled in and emptied again."""
    return None if isinstance(value, str) and not value.strip() else value


ZoneName = Annotated[str, AfterValidator(_zone_name), Field(json_schema_extra={"enum": sorted(zone_names())})]
BlockReference = Annotated[
    str,
    AfterValidator(_block_reference),
    Field(
        max_length=200,
        json_schema_extra=form_pattern(
            r"^([a-z0-9-]+/[a-z0-9-]+)?\Z", "type/name of a saved block, such as slack-webhook/ops"
        ),
    ),
]
Notifier = Annotated[BlockReference | None, BeforeValidator(empty_is_none)]
"""Type and name of a saved notification block; an empty text is none."""


def zone_or_utc(name: str | None) -> ZoneInfo:
    """Return a zone by its IANA name; UTC if it is missing or not known here: Calendly may know newer ones."""
    return ZoneInfo(name) if name in zone_names() else ZoneInfo("UTC")
