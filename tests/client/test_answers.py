"""What an answer holds, and what is said of one that is unreadable."""

from typing import Any

import httpx
import pytest

from prefect_calendly.client import errors
from prefect_calendly.client.answers import parsed
from tests.client.faults import Thing
from tests.support import Server, client_of, ok


@pytest.mark.parametrize("body", [{}, [], {"resource": None}, {"resource": []}, "text", None])
async def test_an_answer_without_the_resource_is_named_unreadable(body: Any) -> None:
    async with client_of(Server(httpx.Response(200, json=body))) as client:
        with pytest.raises(errors.InvalidAnswerError, match="no 'resource'") as caught:
            await client.resource("/things/A", Thing)
    assert caught.value.member == "resource"


@pytest.mark.parametrize(
    ("item", "member"),
    [({}, "uri"), ({"uri": None}, "uri"), ({"uri": 3}, "uri"), ([], "resource"), (None, "resource")],
)
def test_a_missing_member_is_named_with_its_resource_and_the_input_not_shown(item: Any, member: str) -> None:
    with pytest.raises(errors.InvalidAnswerError) as caught:
        parsed(item, Thing, "GET", "/things/A")
    assert (caught.value.resource, caught.value.member) == ("Thing", member)
    assert f"Thing is unreadable at {member!r}" in str(caught.value)
    with pytest.raises(errors.InvalidAnswerError) as caught:
        parsed({"uri": ["bob@example.com"]}, Thing, "GET", "/things/A")
    assert "bob" not in str(caught.value)


async def test_members_we_do_not_know_are_kept() -> None:
    async with client_of(Server(ok({"uri": "a", "new": {"x": 1}}))) as client:
        thing = await client.resource("/things/A", Thing)
    assert thing.model_extra == {"new": {"x": 1}}


@pytest.mark.parametrize("body", [{}, {"collection": {}}, [1], {"collection": [{"no": "uri"}]}])
async def test_an_answer_that_is_no_collection_is_unreadable(body: Any) -> None:
    async with client_of(Server(httpx.Response(200, json=body))) as client:
        with pytest.raises(errors.InvalidAnswerError):
            await client.collection("/things", Thing)
        with pytest.raises(errors.InvalidAnswerError):
            [thing async for thing in client.pages("/things", Thing)]
