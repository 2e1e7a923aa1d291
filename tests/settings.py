"""Prefect's settings, changed for a while."""

from __future__ import annotations

from typing import Any

from prefect.context import SettingsContext, get_settings_context
from pydantic import BaseModel


def changed_settings(name: str, value: Any) -> SettingsContext:
    """Return a context in which one of Prefect's settings is changed.

    `temporary_settings` reads all settings anew, which takes longer than most tests.

    Args:
        name: The setting in Prefect's model, such as `api.url`.
        value: What it is.
    """
    current = get_settings_context()
    return SettingsContext(profile=current.profile, settings=_changed(current.settings, name.split("."), value))


def _changed(model: Any, names: list[str], value: Any) -> Any:
    assert isinstance(model, BaseModel)
    assert names[0] in type(model).model_fields
    inner = value if len(names) == 1 else _changed(getattr(model, names[0]), names[1:], value)
    return model.model_copy(update={names[0]: inner})
