"""What a run leaves for the next one, readable by any worker."""

from __future__ import annotations

import hashlib
import json
from typing import Any, TypeVar

from prefect.exceptions import ObjectAlreadyExists
from prefect.variables import Variable
from pydantic import BaseModel

C = TypeVar("C", bound=BaseModel)


def cursor_name(what: str, *key: Any) -> str:
    """Return the name of the variable that holds a cursor: another one for each key, which it does not show."""
    return f"calendly_{what}_{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:12]}"


async def read_cursor(name: str, kind: type[C]) -> C | None:
    """Return the cursor that a run before has kept; None if there is none.

    Raises:
        pydantic.ValidationError: The variable holds something else.
    """
    kept: Any = await Variable.aget(name)
    return None if kept is None else kind.model_validate_json(json.dumps(kept))


async def keep_cursor(name: str, cursor: BaseModel) -> None:
    """Keep a cursor in a Prefect variable, for the next run."""
    value = cursor.model_dump(mode="json")
    try:
        await Variable.aset(name, value, tags=["calendly"], overwrite=True)
    except ObjectAlreadyExists:  # another first run was faster
        await Variable.aset(name, value, tags=["calendly"], overwrite=True)
