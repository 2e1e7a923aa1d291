"""Work that takes longer shows how far it is: a moving percentage, few lines, and never at the expense of the work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from prefect import flow, get_client
from prefect.artifacts import acreate_progress_artifact
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

import prefect_calendly.runs.progress as module
from prefect_calendly.client import RequestMeter
from prefect_calendly.runs.progress import Steps, Timing, progress
from tests.inline import Inline

HASTY = Timing(first_after=0.01, between_updates=0.01)


def test_steps_count_requests_from_their_beginning_and_no_repeats() -> None:
    meter = RequestMeter(requests=100, repeats=10)
    steps = Steps(meter, 40)
    assert (steps.done, steps.percent, steps.in_words) == (0, 0, "0 %, 0 of about 40 requests")
    meter.requests, meter.repeats = 117, 17
    assert (steps.done, steps.percent, steps.in_words) == (10, 25, "25 %, 10 of about 40 requests")
    steps.expect(10)
    assert (steps.total, steps.percent) == (20, 50)


def test_an_estimate_that_is_too_low_is_never_all_before_the_end() -> None:
    steps = Steps(meter := RequestMeter(), 10)
    meter.requests = 12
    assert steps.percent == 99
    steps.is_over = True
    assert (steps.percent, steps.in_words) == (100, "done, 12 requests")


def test_an_unknown_total_is_no_percentage() -> None:
    steps = Steps(RequestMeter(requests=0))
    steps.meter.requests = 1
    assert (steps.percent, steps.in_words) == (0, "1 request so far")


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110  (nothing signals it)
            await asyncio.sleep(0.005)


async def test_the_percentage_moves_with_the_work_and_ends_at_a_hundred(inline: Inline, run_logs: list[str]) -> None:
    meter = RequestMeter()
    async with progress("moving", "Working", meter, 8, timing=HASTY) as steps:
        await until(lambda: bool(inline.artifacts))
        (artifact,) = inline.artifacts
        assert (artifact.type, artifact.key) == ("progress", "moving")
        assert (artifact.data, artifact.description) == (0, "Working: 0 %, 0 of about 8 requests")
        meter.requests = 2
        await until(lambda: artifact.data == 25)
        steps.total = 4
        await until(lambda: artifact.data == 50)
        assert artifact.description == "Working: 50 %, 2 of about 4 requests"
    assert (artifact.data, artifact.description) == (100, "Working: done, 2 requests")
    # One line for all these updates: the next one would come after ten seconds.
    assert [line for line in run_logs if line.startswith("Working")] == ["Working: 0 %, 0 of about 8 requests, 0 s"]


async def test_work_that_is_soon_over_shows_nothing(inline: Inline, run_logs: list[str]) -> None:
    async with progress("short", "Working", RequestMeter(), 8):
        await asyncio.sleep(0.01)
    assert inline.artifacts == []
    assert not [line for line in run_logs if line.startswith("Working")]


async def test_work_that_fails_is_not_shown_as_done(inline: Inline) -> None:
    async def work() -> None:
        meter = RequestMeter()
        async with progress("failing", "Working", meter, 4, timing=HASTY):
            meter.requests = 1
            await until(lambda: inline.versions("failing") == [25])
            raise LookupError("lost")

    with pytest.raises(LookupError, match="lost"):
        await work()
    assert inline.artifact("failing") == 25


async def test_an_artifact_that_is_being_created_when_the_work_ends_is_shown_as_done(
    inline: Inline, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, creating = acreate_progress_artifact, asyncio.Event()

    async def slowly(*args: Any, **kwargs: Any) -> UUID:
        creating.set()
        await asyncio.sleep(0.05)
        return await create(*args, **kwargs)

    monkeypatch.setattr(module, "acreate_progress_artifact", slowly)
    async with progress("slow", "Working", RequestMeter(), 4, timing=HASTY):
        await creating.wait()
    assert inline.artifact("slow") == 100


@pytest.mark.usefixtures("inline")
@pytest.mark.parametrize("broken", ["acreate_progress_artifact", "aupdate_progress_artifact", "run_logger"])
async def test_progress_that_cannot_be_shown_does_not_fail_the_work(
    broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = asyncio.Event()

    def fail(*args: Any, **kwargs: Any) -> Any:
        tried.set()
        raise RuntimeError("Prefect's server is away")

    monkeypatch.setattr(module, broken, fail)
    async with progress("broken", "Working", RequestMeter(), 4, timing=HASTY), asyncio.timeout(20):
        await tried.wait()


async def test_a_server_that_does_not_answer_holds_up_the_end_for_seconds_only(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = asyncio.Event()

    async def never(*args: Any, **kwargs: Any) -> UUID:
        asked.set()
        await asyncio.sleep(3600)
        raise AssertionError

    monkeypatch.setattr(module, "acreate_progress_artifact", never)
    async with asyncio.timeout(20):
        async with progress("hanging", "Working", RequestMeter(), 4, timing=Timing(first_after=0.01, at_end=0.05)):
            await asked.wait()


@pytest.mark.usefixtures("prefect_server")
async def test_prefect_shows_one_artifact_that_moves() -> None:
    meter = RequestMeter()

    async def shown() -> list[tuple[Any, str | None, str | None]]:
        async with get_client() as client:
            wanted = ArtifactFilter(key=ArtifactFilterKey(any_=["shown"]))
            found = await client.read_artifacts(artifact_filter=wanted)
        return [(artifact.data, artifact.type, artifact.description) for artifact in found]

    @flow
    async def work() -> None:
        async with progress("shown", "Working", meter, 8, timing=HASTY), asyncio.timeout(20):
            while not await shown():  # noqa: ASYNC110  (nothing signals it)
                await asyncio.sleep(0.02)
            meter.requests = 2
            while (await shown())[0][0] != 25:  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    await work()
    assert await shown() == [(100, "progress", "Working: done, 2 requests")]
