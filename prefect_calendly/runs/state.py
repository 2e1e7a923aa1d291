"""What a run leaves for the next one, whichever worker that runs on: kept in a Prefect block, of any size.

Variables end at 5,000 characters, and result storage may be a folder of one machine.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final, TypeVar

from prefect.blocks.core import Block
from prefect.client.orchestration import PrefectClient, get_client
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from pydantic import BaseModel, ConfigDict, Field

M = TypeVar("M", bound=BaseModel)

TYPE_SLUG: Final = "calendly-state"


class CalendlyState(Block):
    """
    What a flow remembers from run to run. The flow writes it; delete it, and the flow starts over.
    """

    _block_type_name: ClassVar[str | None] = "Calendly State"
    _block_type_slug: ClassVar[str | None] = TYPE_SLUG

    model_config = ConfigDict(extra="forbid")

    value: dict[str, Any] = Field(description="The state as the flow has written it.")
    expires_at: datetime | None = Field(default=None, description="When the state may be removed; empty is never.")


def state_name(purpose: str, *account: Any) -> str:
    """Return the name under which a purpose's state of an account is kept.

    Args:
        purpose: Lowercase letters and dashes, such as `poll`.
        account: Whatever tells apart what must not share a state: gateway, user or organization, scope. The name
            does not show it.

    Returns:
        The name of the block, such as `poll-0a1b2c3d4e5f`.
    """
    return f"{purpose}-{hashlib.sha256(json.dumps(account).encode()).hexdigest()[:12]}"


async def read_state(name: str, model: type[M]) -> M | None:
    """Return the state that an earlier run has saved; None if there is none.

    Args:
        name: As `state_name` returns it.
        model: What the state is.

    Raises:
        pydantic.ValidationError: The block holds something else.
    """
    value = await _read(name)
    return None if value is None else model.model_validate_json(json.dumps(value))


async def save_state(name: str, state: BaseModel, *, keep_for: timedelta | None = None) -> None:
    """Save a state for the next run, in place of the one before.

    Args:
        name: As `state_name` returns it.
        state: What to save; no personal data, no secrets.
        keep_for: How long it is of use. Expired states are removed when a new one is made; None: never.
    """
    expires_at = None if keep_for is None else datetime.now(UTC) + keep_for
    await _write(name, state.model_dump(mode="json"), expires_at)


async def _read(name: str) -> dict[str, Any] | None:
    async with get_client() as client:
        try:
            document = await client.read_block_document_by_name(name, TYPE_SLUG)
        except ObjectNotFound:
            return None
    value: dict[str, Any] = document.data["value"]
    return value


async def _write(name: str, value: dict[str, Any], expires_at: datetime | None) -> None:
    async with get_client() as client:
        try:
            await client.read_block_document_by_name(name, TYPE_SLUG)
        except ObjectNotFound:
            await _remove_expired(client)
        await CalendlyState(value=value, expires_at=expires_at).asave(name, overwrite=True, client=client)


async def _remove_expired(client: PrefectClient) -> None:
    try:
        documents = await client.read_block_documents_by_type(TYPE_SLUG)
    except PrefectHTTPStatusError as error:
        if error.response.status_code == 404:  # the very first state: there is no such block type yet
            return
        raise
    now = datetime.now(UTC)
    for document in documents:
        expires_at = document.data.get("expires_at")
        if expires_at is not None and datetime.fromisoformat(expires_at) < now:
            await client.delete_block_document(document.id)
