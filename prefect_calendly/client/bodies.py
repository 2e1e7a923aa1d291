"""The body of an answer, read within bounds: how much of it there is, is up to whoever sends it."""

from __future__ import annotations

import zlib
from typing import Final

import httpx

ACCEPT_ENCODING: Final = "gzip"
"""The one content coding that `read_body` knows; what a request should ask for."""

_GZIP: Final = 16 + zlib.MAX_WBITS


async def read_body(answer: httpx.Response, most_bytes: int) -> bytes:
    """Read the body of an answer, and never hold more of it than allowed, however small it was packed.

    Args:
        answer: An answer that was asked for with `stream=True`; close it afterwards.
        most_bytes: More than this, packed or not, is no answer.

    Returns:
        The body, unpacked.

    Raises:
        httpx.DecodingError: There is more of it, it is broken, or packed in another way than by gzip, once.
        httpx.TransportError: The connection broke.

    Example:
        ```python
        import httpx

        from prefect_calendly.client.bodies import ACCEPT_ENCODING, read_body

        things = httpx.MockTransport(lambda request: httpx.Response(200, json=[]))
        async with httpx.AsyncClient(headers={"Accept-Encoding": ACCEPT_ENCODING}, transport=things) as client:
            async with client.stream("GET", "https://api.example.com/things") as answer:
                body = await read_body(answer, 1024**2)
        ```
    """
    codings = [coding.strip().lower() for coding in (answer.headers.get("Content-Encoding") or "identity").split(",")]
    if codings not in (["identity"], ["gzip"], ["x-gzip"]):
        raise httpx.DecodingError("The answer is packed in another way than by gzip, once")
    unpacker = None if codings == ["identity"] else zlib.decompressobj(_GZIP)
    if not isinstance(answer.stream, httpx.AsyncByteStream):
        raise TypeError("the answer must be one of an httpx.AsyncClient")
    body, received = bytearray(), 0
    async for part in answer.stream:  # as it came: httpx itself would unpack all of a part at once, whatever its size
        received += len(part)
        if unpacker is None:
            body += part
        elif not unpacker.eof:
            try:
                body += unpacker.decompress(part, most_bytes + 1 - len(body))
            except zlib.error:
                raise httpx.DecodingError("The answer is packed, and cannot be unpacked") from None
        if max(received, len(body)) > most_bytes:
            raise httpx.DecodingError(f"The answer has more than {most_bytes / 1024**2:g} MiB")
    if unpacker is not None and received and not unpacker.eof:
        raise httpx.DecodingError("The answer is packed, and not whole")
    return bytes(body)
