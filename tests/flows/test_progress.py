"""Work that lasts shows how far it is: a moving percentage, few lines, and never at the price of the work itself."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from prefect import flow, get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.objects import Artifact

import prefect_calendly.runs.progress as module
from prefect_calendly.client import RequestMeter
from prefect_calendly.runs.progress import Steps, progress


@pytest.fixture
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE_SECONDS", 0.01)
    monkeypatch.setattr(module, "_BETWEEN_UPDATES_SECONDS", 0.01)


async def shown(key: str) -> Artifact | None:
    """The newest progress artifact of a key."""
    async with get_client() as client:
        wanted = ArtifactFilter(key=ArtifactFilterKey(any_=[key]))
        found = await client.read_artifacts(artifact_filter=wanted)
    return max(found, key=lambda artifact: artifact.created or 0, default=None)  # type: ignore[arg-type,type-var]


async def until(key: str, holds: Callable[[Artifact], bool]) -> Artifact:
    async with asyncio.timeout(20):
        while (artifact := await shown(key)) is None or not holds(artifact):  # noqa: ASYNC110  (nobody tells)
            await asyncio.sleep(0.02)
    return artifact


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


@pytest.mark.usefixtures("prefect_server", "_hasty")
async def test_the_percentage_moves_with_the_work_and_ends_at_a_hundred(run_logs: list[str]) -> None:
    @flow
    async def work() -> None:
        meter = RequestMeter()
        async with progress("moving", "Working", meter, 8) as steps:
            assert (await until("moving", lambda artifact: artifact.data == 0)).description == (
                "Working: 0 %, 0 of about 8 requests"
            )
            meter.requests = 2
            await until("moving", lambda artifact: artifact.data == 25)
            steps.total = 4
            artifact = await until("moving", lambda artifact: artifact.data == 50)
            assert artifact.type == "progress"
            assert artifact.description == "Working: 50 %, 2 of about 4 requests"

    await work()
    artifact = await shown("moving")
    assert artifact is not None
    assert (artifact.data, artifact.description) == (100, "Working: done, 2 requests")
    # One line for all these updates: the next would come after ten seconds.
    assert [line for line in run_logs if line.startswith("Working")] == ["Working: 0 %, 0 of about 8 requests, 0 s"]


@pytest.mark.usefixtures("prefect_server")
async def test_work_that_is_soon_over_shows_nothing(run_logs: list[str]) -> None:
    @flow
    async def work() -> None:
        async with progress("short", "Working", RequestMeter(), 8):
            await asyncio.sleep(0.1)

    await work()
    assert await shown("short") is None
    assert not [line for line in run_logs if line.startswith("Working")]


@pytest.mark.usefixtures("prefect_server", "_hasty")
async def test_work_that_fails_is_not_shown_as_done() -> None:
    @flow
    async def work() -> None:
        meter = RequestMeter()
        async with progress("failing", "Working", meter, 4):
            meter.requests = 1
            await until("failing", lambda artifact: artifact.data == 25)
            raise LookupError("lost")

    with pytest.raises(LookupError, match="lost"):
        await work()
    artifact = await shown("failing")
    assert artifact is not None
    assert artifact.data == 25


@pytest.mark.usefixtures("prefect_server", "_hasty")
async def test_an_artifact_that_is_just_being_made_when_the_work_ends_is_shown_as_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make, making = module.acreate_progress_artifact, asyncio.Event()

    async def slowly(*args: Any, **kwargs: Any) -> UUID:
        making.set()
        await asyncio.sleep(0.3)
        return await make(*args, **kwargs)

    monkeypatch.setattr(module, "acreate_progress_artifact", slowly)

    @flow
    async def work() -> None:
        async with progress("slow", "Working", RequestMeter(), 4):
            await making.wait()

    await work()
    artifact = await shown("slow")
    assert artifact is not None
    assert artifact.data == 100


@pytest.mark.usefixtures("prefect_server", "_hasty")
@pytest.mark.parametrize("broken", ["acreate_progress_artifact", "aupdate_progress_artifact", "get_run_logger"])
async def test_a_percentage_that_cannot_be_shown_does_not_fail_the_work(
    broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = asyncio.Event()

    def fail(*args: Any, **kwargs: Any) -> Any:
        tried.set()
        raise RuntimeError("Prefect's server is away")

    monkeypatch.setattr(module, broken, fail)

    @flow
    async def work() -> int:
        async with progress("broken", "Working", RequestMeter(), 4), asyncio.timeout(20):
            await tried.wait()
        return 7

    assert await work() == 7


@pytest.mark.usefixtures("prefect_server", "_hasty")
async def test_a_server_that_does_not_answer_holds_up_the_end_for_seconds_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LAST_SECONDS", 0.05)
    asked = asyncio.Event()

    async def never(*args: Any, **kwargs: Any) -> UUID:
        asked.set()
        await asyncio.sleep(3600)
        raise AssertionError

    monkeypatch.setattr(module, "acreate_progress_artifact", never)

    @flow
    async def work() -> None:
        async with progress("hanging", "Working", RequestMeter(), 4):
            await asked.wait()

    await asyncio.wait_for(work(), 20)
