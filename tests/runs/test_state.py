"""State between runs, on a real Prefect server."""

import contextlib

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from pydantic import BaseModel

from prefect_calendly.runs.state import TYPE_SLUG, read_state, save_state, state_name


class Cursor(BaseModel):
    position: int


async def test_the_first_state_of_a_new_server_is_saved(prefect_server: None) -> None:
    async with get_client() as client:
        with contextlib.suppress(ObjectNotFound):
            block_type = await client.read_block_type_by_slug(TYPE_SLUG)
            await client.delete_block_type(block_type.id)
    name = state_name("new-server")
    assert await read_state(name, Cursor) is None
    await save_state(name, Cursor(position=1))
    await save_state(name, Cursor(position=2))
    assert await read_state(name, Cursor) == Cursor(position=2)
