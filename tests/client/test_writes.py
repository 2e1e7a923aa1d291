"""Writes that must not happen twice."""

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_calendly.client import errors
from prefect_calendly.client.writes import confirm_write, send_once
from tests.support import Reply, Server, VirtualTime, client_of, ok

LOST = [
    errors.NetworkError("gone"),
    errors.ServerError("500", status=500),
    errors.InvalidAnswerError("HTML", status=200),
    errors.ExternalCalendarError("424", status=424),
]


class World:
    """A write that does as told, and a look at its effect."""

    def __init__(
        self,
        *steps: Exception | str,
        effect_after: int | None = None,
        seen_after: int = 0,
        look: Exception | None = None,
    ) -> None:
        self.steps = list(steps)
        self.effect_after = effect_after
        self.seen_after = seen_after
        self.look_fails = look
        self.writes = self.looks = 0

    async def write(self) -> str:
        self.writes += 1
        step = self.steps[min(self.writes, len(self.steps)) - 1]
        if isinstance(step, Exception):
            raise step
        return step

    async def look_up(self) -> str | None:
        self.looks += 1
        if self.looks <= self.seen_after:
            return None
        if self.look_fails is not None:
            raise self.look_fails
        return "found" if self.effect_after is not None and self.writes >= self.effect_after else None

    def confirm(self, time: VirtualTime) -> str:
        return time.run(confirm_write(self.write, self.look_up))

    def send_once(self, time: VirtualTime) -> str:
        return time.run(send_once(self.write, self.look_up))


def test_a_write_that_works_is_not_looked_up(virtual_time: VirtualTime) -> None:
    world = World("done")
    assert world.confirm(virtual_time) == "done"
    assert (world.writes, world.looks) == (1, 0)


@pytest.mark.parametrize("lost", LOST, ids=lambda lost: type(lost).__name__)
def test_after_a_lost_answer_an_effect_that_is_there_is_not_made_twice(
    lost: Exception,
    virtual_time: VirtualTime,
) -> None:
    world = World(lost, effect_after=1)
    assert world.confirm(virtual_time) == "found"
    assert (world.writes, world.looks) == (1, 1)


@pytest.mark.parametrize("lost", LOST, ids=lambda lost: type(lost).__name__)
def test_after_a_lost_answer_an_effect_that_is_not_there_is_tried_again(
    lost: Exception,
    virtual_time: VirtualTime,
) -> None:
    world = World(lost, "done")
    assert world.confirm(virtual_time) == "done"
    assert (world.writes, world.looks) == (2, 1)
    world = World(lost)
    with pytest.raises(type(lost)) as caught:
        world.confirm(virtual_time)
    assert caught.value is lost
    assert (world.writes, world.looks) == (3, 3)
    assert virtual_time.now <= 3


@pytest.mark.parametrize("lost", LOST, ids=lambda lost: type(lost).__name__)
@pytest.mark.parametrize(("seen_after", "seconds"), [(0, 0), (1, 1), (2, 3), (3, 7), (4, 15)])
def test_what_must_not_be_repeated_is_looked_for_until_it_turns_up(
    lost: Exception,
    seen_after: int,
    seconds: float,
    virtual_time: VirtualTime,
) -> None:
    world = World(lost, effect_after=1, seen_after=seen_after)
    assert world.send_once(virtual_time) == "found"
    assert (world.writes, world.looks) == (1, seen_after + 1)
    assert virtual_time.now == pytest.approx(seconds, abs=0.01)


@pytest.mark.parametrize("lost", LOST, ids=lambda lost: type(lost).__name__)
def test_what_must_not_be_repeated_and_never_turns_up_is_unconfirmed(
    lost: Exception,
    virtual_time: VirtualTime,
) -> None:
    world = World(lost, "made twice")
    with pytest.raises(errors.UnconfirmedWriteError, match="not there so far") as caught:
        world.send_once(virtual_time)
    assert str(lost).split(".")[0] in str(caught.value)
    assert "Look at the calendar" in str(caught.value)
    assert (world.writes, world.looks) == (1, 5)
    assert virtual_time.now == pytest.approx(15, abs=0.01)


@pytest.mark.parametrize(
    "error",
    [
        errors.ConflictError("there"),
        errors.SlotFilledError("somebody else's"),
        errors.NetworkError("no", maybe_sent=False),
        errors.InvalidAnswerError("redirect", status=302),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_refusal_of_what_must_not_be_repeated_is_just_that(error: Exception, virtual_time: VirtualTime) -> None:
    world = World(error, "made", effect_after=1)
    with pytest.raises(type(error)) as caught:
        world.send_once(virtual_time)
    assert caught.value is error
    assert (world.writes, world.looks) == (1, 0)
    assert virtual_time.now == 0


@pytest.mark.parametrize("seen_after", [0, 1, 4])
def test_when_a_look_for_what_must_not_be_repeated_fails_nobody_knows(
    seen_after: int,
    virtual_time: VirtualTime,
) -> None:
    world = World(
        errors.ServerError("lost 500", status=500, method="POST", path="/invitees"),
        effect_after=1,
        seen_after=seen_after,
        look=errors.PermissionDeniedError("look 403", status=403),
    )
    with pytest.raises(errors.UnconfirmedWriteError, match=r"lost 500.*look 403") as caught:
        world.send_once(virtual_time)
    assert (caught.value.method, caught.value.path) == ("POST", "/invitees")
    assert (world.writes, world.looks) == (1, seen_after + 1)


def test_what_works_at_once_needs_no_look_even_if_it_must_not_be_repeated(virtual_time: VirtualTime) -> None:
    world = World("done")
    assert world.send_once(virtual_time) == "done"
    assert (world.writes, world.looks, virtual_time.now) == (1, 0, 0)


def test_a_refusal_after_a_lost_answer_may_mean_that_it_is_done(virtual_time: VirtualTime) -> None:
    world = World(LOST[0], errors.ConflictError("there"), effect_after=2)
    assert world.confirm(virtual_time) == "found"
    world = World(LOST[0], errors.ConflictError("somebody else's"))
    with pytest.raises(errors.ConflictError):
        world.confirm(virtual_time)
    assert world.writes == 2


def test_a_refusal_at_once_is_just_that(virtual_time: VirtualTime) -> None:
    world = World(errors.ConflictError("there"), effect_after=1)
    with pytest.raises(errors.ConflictError):
        world.confirm(virtual_time)
    assert (world.writes, world.looks) == (1, 0)


@pytest.mark.parametrize("steps", [[LOST[0]], [LOST[1], errors.ConflictError("there")]])
def test_when_the_look_up_fails_too_the_error_says_that_nobody_knows(
    steps: list[Exception],
    virtual_time: VirtualTime,
) -> None:
    world = World(*steps, look=errors.ServerError("look 500", method="GET", path="/x"))
    with pytest.raises(errors.UnconfirmedWriteError, match="look 500") as caught:
        world.confirm(virtual_time)
    assert world.writes == 1
    assert "Look at the calendar" in str(caught.value)


@pytest.mark.parametrize(
    "error", [errors.NetworkError("no", maybe_sent=False), errors.InvalidAnswerError("redirect", status=302)]
)
def test_what_surely_did_not_happen_needs_no_look(error: Exception, virtual_time: VirtualTime) -> None:
    world = World(error)
    with pytest.raises(type(error)):
        world.confirm(virtual_time)
    assert (world.writes, world.looks) == (1, 0)


def test_never_sent_after_a_lost_answer_is_still_looked_up(virtual_time: VirtualTime) -> None:
    world = World(LOST[0], errors.NetworkError("no", maybe_sent=False), effect_after=2)
    assert world.confirm(virtual_time) == "found"
    assert (world.writes, world.looks) == (2, 2)


@given(st.lists(st.booleans(), max_size=4))
def test_however_answers_get_lost_the_effect_is_there_once(lost: list[bool]) -> None:
    """The first answers are lost, with or without the effect; then one arrives. A look tells the truth."""
    made = 0

    async def write() -> str:
        nonlocal made
        if not lost:
            made += 1
            return "done"
        made += lost.pop(0)
        raise errors.NetworkError("lost")

    async def look_up() -> str | None:
        return "found" if made else None

    try:
        VirtualTime().run(confirm_write(write, look_up))
    except errors.NetworkError:
        assert made == 0
    else:
        assert made == 1


@pytest.mark.parametrize(
    ("replies", "writes", "ends"),
    [
        ([httpx.Response(204)], 1, None),
        ([httpx.ReadTimeout("lost"), httpx.Response(404)], 1, None),
        ([httpx.ReadTimeout("lost"), ok(), httpx.Response(204)], 2, None),
        ([httpx.ReadTimeout("lost"), ok(), httpx.Response(404), httpx.Response(404)], 2, None),
        ([httpx.Response(404)], 1, errors.NotFoundError),
        ([httpx.Response(500), httpx.Response(403)], 1, errors.UnconfirmedWriteError),
        ([httpx.Response(500), ok(), httpx.Response(500), ok(), httpx.Response(500), ok()], 3, errors.ServerError),
    ],
)
def test_a_deletion_looks_whether_it_is_gone_before_it_repeats(
    replies: list[Reply],
    writes: int,
    ends: type[Exception] | None,
    virtual_time: VirtualTime,
) -> None:
    async def story() -> None:
        async with client_of(server) as client:
            await client.delete("/things/A")

    server = Server(*replies)
    if ends is None:
        virtual_time.run(story())
    else:
        with pytest.raises(ends):
            virtual_time.run(story())
    assert [request.method for request in server.requests].count("DELETE") == writes
    assert len(server.requests) == len(replies)
