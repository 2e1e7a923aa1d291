"""One attempt of a delivery: where it may go, its signature, and the POST itself."""

from __future__ import annotations

import asyncio
import hashlib
import hmac

import httpx

ATTEMPT_SECONDS = 10.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")
# Domains reserved for examples: their owners must not receive the sandbox's deliveries.
RESERVED_DOMAINS = ("example", "invalid", "example.com", "example.net", "example.org")


def deliverable(url: str) -> bool:
    """Whether a URL can be subscribed: https or, though Calendly itself refuses it, http on this machine."""
    try:
        target = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        return False
    return bool(target.host) and (target.scheme == "https" or (target.scheme == "http" and target.host in LOOPBACK))


def is_reserved(host: str) -> bool:
    """Whether a host belongs to a domain that is reserved for examples."""
    return any(host == domain or host.endswith(f".{domain}") for domain in RESERVED_DOMAINS)


def sign(key: str, timestamp: int, body: bytes) -> str:
    """The value of the header `Calendly-Webhook-Signature`."""
    digest = hmac.new(key.encode(), b"%d." % timestamp + body, hashlib.sha256).hexdigest()
    return f"t={timestamp},v1={digest}"


class Sender:
    """Sends deliveries with one HTTP client, which outlives resets. It is opened late because that takes a while."""

    def __init__(self) -> None:
        self._client: httpx.AsyncClient | None = None

    async def post(self, url: httpx.URL, body: bytes, signature: str | None) -> tuple[int | None, str | None]:
        """Send a delivery; return the status of the answer or, if there is none, the name of the error."""
        headers = {"content-type": "application/json"}
        if signature is not None:
            headers["calendly-webhook-signature"] = signature
        client = self._open()
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                request = client.build_request("POST", url, content=body, headers=headers)
                return (await client.send(request)).status_code, None
        except Exception as problem:  # whatever it is, the receiver has not accepted the delivery
            return None, type(problem).__name__

    def _open(self) -> httpx.AsyncClient:
        if self._client is None:
            no_limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
            self._client = httpx.AsyncClient(
                headers={"user-agent": "calendly-sandbox"}, limits=no_limits, timeout=ATTEMPT_SECONDS, trust_env=False
            )
        return self._client

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()
