"""What a run leaves for the next one, whichever worker that runs on: kept in a Prefect block, of any size.

Variables end at 5,000 characters, and result storage may be a folder of one machine.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final, TypeVar

from prefect.blocks.core import Block
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import BlockDocumentUpdate
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound, PrefectHTTPStatusError
from pydantic import BaseModel, ConfigDict, Field, HttpUrl

from prefect_calendly.about import DOCUMENTATION_URL

M = TypeVar("M", bound=BaseModel)

TYPE_SLUG: Final = "calendly-state"


class CalendlyState(Block):
    """
    What a flow remembers from run to run. The flow writes it. If you delete it, the flow starts over.
    """

    _block_type_name: ClassVar[str | None] = "Calendly State"
    _block_type_slug: ClassVar[str | None] = TYPE_SLUG
    _documentation_url: ClassVar[HttpUrl | None] = HttpUrl(DOCUMENTATION_URL)

    model_config = ConfigDict(extra="forbid")

    value: dict[str, Any] = Field(description="The state, as the flow has written it.")
    expires_at: datetime | None = Field(default=None, description="When the state may be removed; empty means never.")


def state_name(purpose: str, *account: Any) -> str:
    """Return the name under which the state of a purpose and an account is kept.

    Args:
        purpose: Lowercase letters and dashes, such as `poll`.
        account: Everything that tells apart what must not share a state: gateway, user or organization, scope. The
            name shows only a hash of it.

    Returns:
        The name of the block, such as `poll-0a1b2c3d4e5f`.

    Example:
        >>> state_name("poll", "https://gateway.maton.ai/calendly", "https://api.calendly.com/users/AAAA", "user")
        'poll-4dc89d3d5903'
    """
    return f"{purpose}-{hashlib.sha256(json.dumps(account).encode()).hexdigest()[:12]}"


def state_block(name: str) -> str:
    """Return how a message names a state, so that a person finds it under Blocks in the Prefect UI.

    Args:
        name: As `state_name` returns it.

    Returns:
        Type and name of the block, such as `calendly-state/poll-0a1b2c3d4e5f`.
    """
    return f"{TYPE_SLUG}/{name}"


async def read_state(name: str, model: type[M]) -> M | None:
    """Return the state that an earlier run has saved; None if there is none.

    Args:
        name: As `state_name` returns it.
        model: What the state is.

    Returns:
        The state, also one that has expired and was not removed yet.

    Raises:
        pydantic.ValidationError: The block holds something else.
    """
    value = await _read(name)
    return None if value is None else model.model_validate_json(json.dumps(value))


async def save_state(name: str, state: BaseModel, *, keep_for: timedelta | None = None) -> None:
    """Save a state for the next run, in place of the one before.

    Of two runs that save at the same time, the later one wins; the state is never a mixture of both.

    Args:
        name: As `state_name` returns it.
        state: What to save: no personal data, no secrets.
        keep_for: How long it is of use; None means forever. Expired states are removed when a new one is made.
    """
    expires_at = None if keep_for is None else datetime.now(UTC) + keep_for
    await _write(name, state.model_dump(mode="json"), expires_at)


async def _read(name: str) -> Any:
    async with get_client() as client:
        try:
            document = await client.read_block_document_by_name(name, TYPE_SLUG)
        except ObjectNotFound:
            return None
    # Somebody can edit the block in the UI: whatever it holds instead is for `read_state` to refuse.
    return document.data.get("value")


async def _write(name: str, value: dict[str, Any], expires_at: datetime | None) -> None:
    block = CalendlyState(value=value, expires_at=expires_at)
    async with get_client() as client:
        try:
            # Two requests. Saving the block anew would take six, and send the state twice.
            document = await client.read_block_document_by_name(name, TYPE_SLUG)
            update = BlockDocumentUpdate(data=block.model_dump(mode="json", include={"value", "expires_at"}))
            await client.update_block_document(document.id, update)
        except ObjectNotFound:
            await _remove_expired(client)
            await _create(client, name, block)


async def _create(client: PrefectClient, name: str, block: CalendlyState) -> None:
    for _ in range(2):
        # Two flows that save their very first states at the same moment both register the block type.
        with contextlib.suppress(ObjectAlreadyExists):
            await block.asave(name, overwrite=True, client=client)
            return
    await block.asave(name, overwrite=True, client=client)


async def _remove_expired(client: PrefectClient) -> None:
    try:
        documents = await client.read_block_documents_by_type(TYPE_SLUG)
    except PrefectHTTPStatusError as error:
        if error.response.status_code == 404:  # the very first state: the block type is not there yet
            return
        raise
    now = datetime.now(UTC)
    for document in documents:
        if _has_expired(document.data.get("expires_at"), now):
            with contextlib.suppress(ObjectNotFound):  # another run has removed it meanwhile
                await client.delete_block_document(document.id)


def _has_expired(expires_at: Any, now: datetime) -> bool:
    try:
        return datetime.fromisoformat(expires_at) < now
    except (TypeError, ValueError):  # none, or one that somebody has entered in the UI: it stays
        return False
