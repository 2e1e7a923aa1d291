"""Which hosts the key goes to, and which URLs and keys are refused."""

import asyncio

import httpx
import pytest

from prefect_calendly.client import CalendlyClient, Method, RetryPolicy, checked_base_url, errors
from prefect_calendly.client.transport import USER_AGENT
from prefect_calendly.sandbox import Sandbox
from tests.client.faults import WRITES, Thing, send
from tests.support import Server, VirtualTime, client_of, ok, page


@pytest.mark.parametrize("method", ["GET", *WRITES])
@pytest.mark.parametrize("status", [301, 302, 303, 304, 307, 308])
def test_redirects_are_never_followed_nor_repeated(
    method: Method,
    status: int,
    virtual_time: VirtualTime,
) -> None:
    server = Server(httpx.Response(status, headers={"Location": "https://evil.example/"}))
    with pytest.raises(errors.InvalidAnswerError, match="redirect") as caught:
        virtual_time.run(send(server, method))
    assert caught.value.status == status
    assert len(server.requests) == 1
    assert server.hosts == {"gateway.maton.ai"}


async def test_the_key_goes_to_the_two_configured_hosts_and_no_other() -> None:
    server = Server(page([{"uri": "a"}], "t1"), page([{"uri": "b"}], None), ok())
    async with client_of(server, api_key="the-key", connection_id="conn-1") as client:
        assert [thing.uri async for thing in client.pages("/things", Thing)] == ["a", "b"]
        await client.request("GET", "/connections", host="connections")
    assert [request.url.host for request in server.requests] == ["gateway.maton.ai"] * 2 + ["ctrl.maton.ai"]
    assert [request.url.path for request in server.requests] == ["/calendly/things"] * 2 + ["/connections"]
    for request in server.requests:
        assert request.headers["Authorization"] == "Bearer the-key"
        assert request.headers["Maton-Connection"] == "conn-1"
        assert request.headers["User-Agent"] == USER_AGENT
        assert request.headers["Accept"] == "application/json"
        assert "the-key" not in str(request.url)


async def test_no_proxy_of_the_environment_reads_the_key(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1") as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
            monkeypatch.delenv(name.upper(), raising=False)
            monkeypatch.setenv(
                name, "" if name == "no_proxy" else f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
            )
        async with CalendlyClient(sandbox.api_key, gateway_url=sandbox.gateway_url) as client:
            await client.request("GET", "/users/me")
        assert requests == []
        # What is encrypted may go through one.
        async with CalendlyClient("the-key", retry=RetryPolicy(attempts=1)) as client:
            with pytest.raises(errors.NetworkError):
                await client.request("GET", "/users/me")
    assert [request.split(b"\r\n")[0] for request in requests] == [b"CONNECT gateway.maton.ai:443 HTTP/1.1"]
    assert b"the-key" not in requests[0]


async def test_without_a_connection_the_gateway_chooses() -> None:
    server = Server(ok())
    await send(server)
    assert "Maton-Connection" not in server.requests[0].headers


async def test_calendly_itself_sees_nothing_of_maton() -> None:
    server = Server(ok())
    async with client_of(server, gateway_url="https://api.calendly.com/", connection_id="conn-1") as client:
        assert client.direct
        await client.request("GET", "/users/me")
        with pytest.raises(ValueError, match="no Maton connections here"):
            await client.request("GET", "/connections", host="connections")
    assert str(server.requests[0].url) == "https://api.calendly.com/users/me"
    assert not [name for name in server.requests[0].headers if "maton" in name]
    async with client_of(server, connections_url=None) as client:
        with pytest.raises(ValueError, match="no Maton connections here"):
            await client.request("GET", "/connections", host="connections")
    assert len(server.requests) == 1


async def test_the_newer_hosts_of_maton_work_too() -> None:
    server = Server(ok())
    options = {"gateway_url": "https://api.maton.ai/calendly", "connections_url": "https://api.maton.ai"}
    async with client_of(server, **options) as client:
        await client.request("GET", "/users/me")
        await client.request("GET", "/connections", host="connections")
    urls = [str(request.url) for request in server.requests]
    assert urls == ["https://api.maton.ai/calendly/users/me", "https://api.maton.ai/connections"]


@pytest.mark.parametrize(
    "url",
    [
        "https://gateway.maton.ai/calendly/",
        "HTTPS://example.com",
        "http://localhost:8000/calendly",
        "http://127.0.0.1:1",
        "http://[::1]:80",
        "http://10.1.2.3",
        "http://192.168.0.9:1",
        "http://gateway:8000",
        "http://maton.internal",
        "http://x.local",
        "http://x.localhost",
    ],
)
def test_https_anywhere_and_http_within_the_private_network_pass(url: str) -> None:
    assert checked_base_url(url, "gateway_url").lower() == url.rstrip("/").lower()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "gateway.maton.ai",
        "http://gateway.maton.ai/calendly",
        "http://8.8.8.8",
        "http://134744072",
        "http://0x08080808",
        "ftp://localhost",
        "https://",
        "https://me:pass@gateway.maton.ai",
        "https://me@gateway.maton.ai",
        "https://gateway.maton.ai/?x=1",
        "https://gateway.maton.ai/#x",
        "https://gateway.maton.ai:99999",
        "https://gateway.maton.ai:x",
        "https://[",
        "javascript:alert(1)",
        "http://evil。example/x",
        "http://evil．example/x",
        "https://evil。example/x",
        "https://gätewäy.maton.ai",
        "http://löcalhost:8000",
        "http://localhost.:8000/calendly",
        "http://x.local.",
        "http://127.0.0.1.",
        "http://gateway.",
        "https://gateway.maton.ai./calendly",
    ],
)
def test_other_base_urls_are_refused_by_name(url: str) -> None:
    with pytest.raises(ValueError, match=r"^gateway_url must") as caught:
        CalendlyClient("key", gateway_url=url)
    assert "pass" not in str(caught.value)
    with pytest.raises(ValueError, match=r"^connections_url must"):
        CalendlyClient("key", connections_url=url or "x")


@pytest.mark.parametrize("url", ["http://evil。example/x", "https://gateway.maton.ai./calendly", "http://localhost."])
def test_other_spellings_of_a_host_are_refused_as_such(url: str) -> None:
    with pytest.raises(ValueError, match="plain ASCII, without a dot at the end"):
        checked_base_url(url, "gateway_url")


@pytest.mark.parametrize("key", ["", " ", "\n", "a b", "a\nb", "schlüssel-1", "a\x00b", "a\r\nX-Evil: 1"])
def test_what_is_no_key_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(ValueError, match="api_key") as caught:
        CalendlyClient(key)
    assert not key.strip() or key not in str(caught.value)


@pytest.mark.parametrize("option", ["requests_per_second", "max_concurrency", "timeout_seconds"])
def test_figures_must_be_above_zero(option: str) -> None:
    with pytest.raises(ValueError, match=option):
        CalendlyClient("key", **{option: 0})  # type: ignore[arg-type]
