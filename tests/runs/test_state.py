"""What a run saves, the next one finds: whole, whatever its size."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prefect import get_client
from prefect.client.base import PrefectHttpxAsyncClient
from prefect.client.schemas.actions import BlockDocumentUpdate
from prefect.exceptions import ObjectNotFound
from pydantic import BaseModel, ValidationError

from prefect_calendly.runs.state import TYPE_SLUG, CalendlyState, read_state, save_state, state_block, state_name

pytestmark = pytest.mark.usefixtures("prefect_server")


class Marks(BaseModel):
    marks: tuple[str, ...] = ()
    nested: dict[str, Any] = {}
    at: datetime | None = None


def marks(count: int, letter: str = "a") -> Marks:
    return Marks(marks=tuple(f"{letter}{number:07}" for number in range(count)))


def test_a_name_tells_accounts_apart_and_shows_nothing_of_them() -> None:
    name = state_name("poll", "https://gateway.maton.ai", "https://api.calendly.com/users/AAAA")
    assert name != state_name("poll", "https://gateway.maton.ai", "https://api.calendly.com/users/BBBB")
    assert name.startswith("poll-")
    assert "AAAA" not in name
    assert state_block(name) == f"calendly-state/{name}"


async def test_the_very_first_states_are_saved_at_once_where_prefect_does_not_know_the_block_type() -> None:
    async with get_client() as client:
        with contextlib.suppress(ObjectNotFound):
            known = await client.read_block_type_by_slug(TYPE_SLUG)
            await client.delete_block_type(known.id)
    assert await read_state("first-0", Marks) is None
    await asyncio.gather(*(save_state(f"first-{number}", marks(number)) for number in range(3)))
    assert [await read_state(f"first-{number}", Marks) for number in range(3)] == [marks(n) for n in range(3)]


async def test_half_a_megabyte_comes_back_whole_and_each_save_takes_the_place_of_the_one_before() -> None:
    large = marks(50_000)
    assert len(large.model_dump_json()) > 500_000
    small = Marks(nested={"empty": {}, "deep": {"list": [{"a": None}]}}, at=datetime(2026, 5, 1, tzinfo=UTC))
    for state in (large, small, large, Marks()):
        await save_state("large", state)
        assert await read_state("large", Marks) == state


async def test_a_state_costs_one_request_to_read_and_two_to_save(monkeypatch: pytest.MonkeyPatch) -> None:
    await save_state("counted", marks(3))
    sent: list[str] = []
    send = PrefectHttpxAsyncClient.send

    async def counting(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        if "csrf-token" not in str(request.url):  # one for each client that writes
            sent.append(request.method)
        return await send(self, request, *args, **kwargs)

    monkeypatch.setattr(PrefectHttpxAsyncClient, "send", counting)
    await read_state("counted", Marks)
    assert sent == ["GET"]
    await save_state("counted", marks(4))
    assert sent == ["GET", "GET", "PATCH"]


async def test_of_two_runs_that_save_at_once_one_state_is_kept_whole() -> None:
    one, other = marks(2_000, "a"), marks(3_000, "b")
    for _ in range(2):  # a new state, then one that is there
        await asyncio.gather(save_state("raced", one), save_state("raced", other))
        assert await read_state("raced", Marks) in (one, other)


async def test_expired_states_are_removed_when_a_new_one_is_made_and_others_stay() -> None:
    await save_state("useful", marks(1), keep_for=timedelta(days=1))
    await save_state("eternal", marks(1))
    await save_state("expired", marks(1), keep_for=timedelta(seconds=-1))
    async with get_client() as client:  # as somebody can do in the UI
        edited = await client.read_block_document_by_name("eternal", TYPE_SLUG)
        await client.update_block_document(edited.id, BlockDocumentUpdate(data={"expires_at": "soon"}))
    await save_state("useful", marks(2), keep_for=timedelta(days=1))  # not new
    assert await read_state("expired", Marks) == marks(1)
    await save_state("new", marks(1))
    assert await read_state("expired", Marks) is None
    assert [await read_state(name, Marks) for name in ("useful", "eternal")] == [marks(2), marks(1)]


async def test_a_state_that_somebody_has_deleted_or_changed_in_the_ui_is_gone_or_refused() -> None:
    await save_state("deleted", marks(1))
    await CalendlyState.adelete("deleted")
    assert await read_state("deleted", Marks) is None
    await CalendlyState(value={"marks": 7}).asave("changed", overwrite=True)
    with pytest.raises(ValidationError):
        await read_state("changed", Marks)
    await save_state("changed", marks(1))
    assert await read_state("changed", Marks) == marks(1)
