"""Signing keys: from a block that comes, changes and goes, and known as long as nobody says otherwise."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import SecretStr

from prefect_calendly.webhooks.errors import PrefectUnavailableError
from prefect_calendly.webhooks.keys import SigningKeys, keys_of


class Blocks:
    """A connection to a Prefect with one Secret block."""

    def __init__(self, value: Any = None) -> None:
        self.value = value
        self.asked = 0

    async def secret(self, name: str) -> Any:
        self.asked += 1
        await asyncio.sleep(0)
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


def keys(blocks: Blocks, *given: str, block: str | None = "calendly-key", pause: float = 0.0) -> SigningKeys:
    return SigningKeys(map(SecretStr, given), block, blocks, pause_seconds=pause)  # type: ignore[arg-type]


def texts(keys: SigningKeys) -> list[str]:
    return [key.get_secret_value() for key in keys.current]


@pytest.mark.parametrize(
    ("value", "wanted"),
    [("one", ["one"]), ({"keys": ["new", "old"], "rotated_at": "2026"}, ["new", "old"])],
)
def test_a_block_holds_one_key_or_several(value: Any, wanted: list[str]) -> None:
    assert [key.get_secret_value() for key in keys_of(value)] == wanted


@pytest.mark.parametrize(
    "value", ["", None, 5, [], ["s3cret"], {}, {"keys": []}, {"keys": "s3cret"}, {"keys": ["a", ""]}]
)
def test_a_block_with_something_else_cannot_be_used_and_its_value_is_not_shown(value: Any) -> None:
    with pytest.raises(ValueError, match="must hold a signing key") as refused:
        keys_of(value)
    assert "s3cret" not in str(refused.value)


async def test_keys_of_environment_and_block_are_all_accepted() -> None:
    blocks = Blocks({"keys": ["second", "third"]})
    some = keys(blocks, "first")
    assert texts(some) == ["first"]
    assert await some.reload()
    assert texts(some) == ["first", "second", "third"]
    assert not await some.reload()


async def test_without_a_block_prefect_is_not_asked() -> None:
    blocks = Blocks()
    some = keys(blocks, "first", block=None)
    await some.keep_up()
    assert not await some.reload()
    assert blocks.asked == 0


@pytest.mark.parametrize("trouble", [PrefectUnavailableError("away"), RuntimeError("s3cret"), {"keys": []}])
async def test_the_known_keys_are_accepted_while_the_block_cannot_be_read(
    trouble: Any, caplog: pytest.LogCaptureFixture
) -> None:
    blocks = Blocks("first")
    some = keys(blocks)
    await some.reload()
    blocks.value = trouble
    assert not await some.reload()
    assert not await some.reload()
    assert texts(some) == ["first"]
    # It says so once, and nothing secret.
    assert len([each for each in caplog.records if each.levelname in ("WARNING", "ERROR")]) == 1
    assert "s3cret" not in caplog.text
    assert "first" not in caplog.text


async def test_a_block_that_is_gone_takes_its_keys_with_it() -> None:
    blocks = Blocks("first")
    some = keys(blocks)
    await some.reload()
    blocks.value = None
    assert await some.reload()
    assert texts(some) == []


async def test_wrong_signatures_cannot_make_prefect_busy() -> None:
    blocks = Blocks("first")
    some = keys(blocks, pause=60)
    await asyncio.gather(*(some.reload() for _ in range(50)))
    assert blocks.asked == 1
    for _ in range(50):
        assert not await some.reload()
    assert blocks.asked == 1


async def test_one_request_that_is_canceled_does_not_stop_the_loading() -> None:
    some = keys(Blocks("first"))
    waiting = asyncio.create_task(some.reload())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await asyncio.sleep(0.01)
    assert texts(some) == ["first"]


async def test_a_block_that_is_made_later_is_soon_found() -> None:
    blocks = Blocks()
    some = keys(blocks, pause=0.01)
    keeping = asyncio.create_task(some.keep_up())
    await asyncio.sleep(0.05)
    blocks.value = "first"
    for _ in range(1000):
        await asyncio.sleep(0.01)
        if some.current:
            break
    assert texts(some) == ["first"]
    keeping.cancel()
