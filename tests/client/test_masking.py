"""Neither the key nor what is masked in a body nor an address shows in an error, a repr or a log."""

import json
import logging
import traceback
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from pydantic import SecretStr

from prefect_calendly.client import errors
from prefect_calendly.connections import get_active_connection_via
from tests.client.faults import FAULTS, NEVER_SENT, Thing, send
from tests.support import IMPATIENT, Server, VirtualTime, client_of, ok


def test_the_key_is_in_no_repr_log_or_traceback(caplog: pytest.LogCaptureFixture, virtual_time: VirtualTime) -> None:
    caplog.set_level(logging.DEBUG)
    shown: list[str] = []

    async def story() -> None:
        for reply in (*(reply for reply, _ in FAULTS.values()), *NEVER_SENT.values(), httpx.Response(401)):
            async with client_of(Server(reply), api_key="very-secret-key", connection_id="c") as client:
                shown.extend([repr(client), str(client)])
                try:
                    await client.request("POST", "/a", json={})
                except errors.CalendlyError as error:
                    shown.extend([repr(error), *traceback.format_exception(error), repr(vars(error))])

    virtual_time.run(story())
    assert len(shown) > 30
    assert "very-secret-key" not in "".join(shown) + caplog.text


REPEATED = "the-key-that-is-repeated"


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 418, 422, 429, 500])
@pytest.mark.parametrize(
    "body",
    [
        {"message": f"No such key: {REPEATED}"},
        {"error": {"message": f"Invalid API key {REPEATED}"}},
        {"title": REPEATED, "message": f"x{REPEATED}x"},
        {"detail": [{"loc": [REPEATED], "msg": REPEATED}]},
        {"message": "no", "details": [{"parameter": REPEATED, "message": "k", "code": REPEATED}]},
        {"title": "Insufficient scope", "message": "no", "required_scopes": [REPEATED]},
    ],
)
def test_a_key_that_the_server_repeats_is_in_no_error(
    status: int,
    body: dict[str, Any],
    virtual_time: VirtualTime,
) -> None:
    server = Server(httpx.Response(status, json=body))
    with pytest.raises(errors.CalendlyError) as caught:
        virtual_time.run(send(server, "POST", api_key=REPEATED))
    error = caught.value
    shown = "".join([str(error), repr(error), *traceback.format_exception(error), repr(vars(error))])
    assert REPEATED not in shown
    assert error.status == status


SLASHED = "k3y+of/mine=="


@pytest.mark.parametrize(
    "spelling",
    [
        SLASHED.replace("/", "\\/"),
        SLASHED.replace("+", "\\u002B"),
        "".join(f"\\u{ord(letter):04x}" for letter in SLASHED),
        SLASHED.replace("/", "\\\\\\/"),  # of JSON within JSON
        quote(SLASHED, safe=""),
        SLASHED.replace("+", "&#43;").replace("=", "&#x3d;"),
        "\\u200b".join(SLASHED),
        "x" * 480 + SLASHED,
        f"{' ' * 9_994}{SLASHED}",
    ],
)
async def test_a_key_in_another_spelling_is_in_no_error(spelling: str) -> None:
    text = '{"title": "%s", "message": "no such key: %s", "details": [{"parameter": "%s"}]}'.replace("%s", spelling)
    for content in (text.encode(), text.encode("utf-16"), text.encode("utf-32")):
        for status in (400, 200):  # or JSON that is no resource
            with pytest.raises(errors.CalendlyError) as caught:
                async with client_of(Server(httpx.Response(status, content=content)), api_key=SLASHED) as client:
                    await client.resource("/a", Thing)
            shown = str(caught.value) + repr(vars(caught.value))
            assert spelling.strip() not in shown
            assert SLASHED[:6] not in shown
            assert quote(SLASHED, safe="")[:8] not in shown


@pytest.mark.parametrize("content", [b"{}", b"<html>"])
@pytest.mark.parametrize("status", [200, 302, 404, 500])
async def test_a_key_that_is_called_the_id_of_a_request_is_in_no_error(status: int, content: bytes) -> None:
    for spelled in (SLASHED, quote(SLASHED, safe="")):
        server = Server(httpx.Response(status, content=content, headers={"X-Request-Id": f"req-{spelled}"}))
        with pytest.raises(errors.CalendlyError) as caught:
            async with client_of(server, api_key=SLASHED, retry=IMPATIENT) as client:
                await client.resource("/a", Thing)
        assert spelled not in str(caught.value) + repr(vars(caught.value))


async def test_a_key_is_in_no_error_that_is_made_of_an_answer_elsewhere() -> None:
    connection = {"connection_id": "c", "status": REPEATED, "creation_time": "2026-01-01T00:00:00Z", "app": "calendly"}
    async with client_of(Server(httpx.Response(200, json={"connection": connection})), api_key=REPEATED) as client:
        with pytest.raises(errors.ConnectionPendingError, match=r"still \*\*\*") as caught:
            await get_active_connection_via(client, "c", timeout_seconds=1e-9)
    assert REPEATED not in str(caught.value)


async def test_a_masked_member_of_a_body_is_sent_in_clear_and_repeated_by_no_error() -> None:
    server = Server(httpx.Response(400, json={"title": "Invalid Argument", "message": f"{REPEATED} is no key"}))
    async with client_of(server) as client:
        for empty in ("", REPEATED):
            with pytest.raises(errors.BadRequestError) as caught:
                await client.request("POST", "/x", json={"key": SecretStr(empty), "url": "https://x.example"})
            assert json.loads(server.requests[-1].content) == {"key": empty, "url": "https://x.example"}
    assert str(caught.value).startswith("Invalid Argument: *** is no key (400 POST /x)")


async def test_a_masked_member_is_masked_in_the_spelling_of_json_too() -> None:
    key = 'quo"ted\\key-ü'
    server = Server(httpx.Response(400, json={"title": "Invalid Argument", "message": f"{key} is no key"}))
    async with client_of(server) as client:
        with pytest.raises(errors.BadRequestError, match=r"^Invalid Argument: \*\*\* is no key"):
            await client.request("POST", "/x", json={"key": SecretStr(key)})


@pytest.mark.parametrize("kind", [httpx.WriteTimeout, httpx.ConnectError, httpx.DecodingError, httpx.InvalidURL])
async def test_an_error_leads_to_nothing_that_was_sent(kind: type[Exception]) -> None:
    """A report that follows the chain, as debuggers do, would come to the variables of httpx."""
    async with client_of(Server(kind("broken"))) as client:
        with pytest.raises((errors.CalendlyError, ValueError)) as caught:
            await client.request("POST", "/x", json={"key": SecretStr(REPEATED)})
    assert caught.value.__context__ is caught.value.__cause__ is None


async def test_no_address_gets_into_the_log_by_way_of_httpx(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with client_of(Server(ok())) as client:
        await client.request("GET", "/scheduled_events", params={"invitee_email": "bob@example.com"})
    (record,) = [record for record in caplog.records if record.name == "httpx"]
    assert "https://gateway.maton.ai/calendly/scheduled_events " in record.getMessage()
    assert "bob" not in caplog.text
    async with httpx.AsyncClient(transport=Server(ok())) as other:  # somebody else's requests stay as they are
        await other.get("https://other.example/?q=visible")
    assert "q=visible" in caplog.text
