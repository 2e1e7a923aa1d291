"""What can go wrong on the way to Calendly, and what it is in the end."""

from typing import Any

import httpx

from prefect_calendly.client import Method, errors
from prefect_calendly.resource import Resource
from tests.support import Reply, Server, client_of


class Thing(Resource):
    uri: str


WRITES: list[Method] = ["POST", "PATCH", "PUT", "DELETE"]


CALENDLY_500 = {"title": "Internal Server Error", "message": "unexpected"}


# Each: what happens, the error it is in the end, whether the request may have taken effect.
FAULTS: dict[str, tuple[Reply, type[errors.CalendlyError]]] = {
    "500": (httpx.Response(500, json=CALENDLY_500), errors.ServerError),
    "HTML 502": (httpx.Response(502, html="<html>Bad Gateway</html>"), errors.ServerError),
    "503": (httpx.Response(503, json={"message": "later"}), errors.ServerError),
    "424": (httpx.Response(424, json={"title": "External Calendar Error"}), errors.ExternalCalendarError),
    "truncated JSON": (httpx.Response(200, content=b'{"resource": {"ur'), errors.InvalidAnswerError),
    "HTML 200": (httpx.Response(200, html="<html>"), errors.InvalidAnswerError),
    "JSON too deep": (httpx.Response(200, content=b"[" * 200_000), errors.InvalidAnswerError),
    "no UTF-8": (httpx.Response(200, content=b'{"a": "\xff"}'), errors.InvalidAnswerError),
    "broken encoding": (httpx.DecodingError("bad gzip"), errors.InvalidAnswerError),
    "what no library foresees": (RuntimeError("handler is closed"), errors.InvalidAnswerError),
    "read timeout": (httpx.ReadTimeout("slow"), errors.NetworkError),
    "write timeout": (httpx.WriteTimeout("slow"), errors.NetworkError),
    "read error": (httpx.ReadError("reset"), errors.NetworkError),
    "server hung up": (httpx.RemoteProtocolError("hung up"), errors.NetworkError),
}


NEVER_SENT: dict[str, Reply] = {
    "refused": httpx.ConnectError("refused"),
    "connect timeout": httpx.ConnectTimeout("slow"),
}


FINAL: list[tuple[int, type[errors.CalendlyError]]] = [
    (400, errors.BadRequestError),
    (401, errors.GatewayKeyError),
    (403, errors.PermissionDeniedError),
    (404, errors.NotFoundError),
    (409, errors.ConflictError),
    (418, errors.CalendlyError),
    (422, errors.BadRequestError),
]


async def send(server: Server, method: Method = "GET", path: str = "/things/A", **options: Any) -> Any:
    async with client_of(server, **options) as client:
        return await client.request(method, path)
