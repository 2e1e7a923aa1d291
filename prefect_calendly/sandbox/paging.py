"""Keyset paging: a page begins after a key, or ends before one, so that changes between pages shift nothing.

A page token is opaque, signed and expires. It is bound to the caller, path, filters and `count` it was issued for.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import urlencode

from prefect_calendly.sandbox.errors import invalid
from prefect_calendly.sandbox.model import API
from prefect_calendly.sandbox.routing import Answer, Call

T = TypeVar("T")
Key = list[Any]
TOKEN_LIFETIME = timedelta(hours=24)
PAGING = "count page_token"


class _Reversed:
    """Reverses the order of a value: keys that contain one are sorted descending by it."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __lt__(self, other: _Reversed) -> bool:
        return bool(other.value < self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Reversed) and bool(self.value == other.value)


def page(
    call: Call,
    rows: Sequence[T],
    key: Callable[[T], Key],
    render: Callable[[T], Any],
    *,
    where: Callable[[T], bool] | None = None,
    descending: bool = False,
    wrap: Callable[[Key], Any] = lambda key: key,
) -> Answer:
    """One page of `rows`, which are sorted by `wrap(key(row))`; `descending` reads them from the end.

    Keys must be unique and consist of JSON values, because page tokens contain them.
    """
    count, backwards, start = _start(call)

    def rank(row: T) -> Any:
        return wrap(key(row))

    def walk(cursor: Key | None, up: bool) -> Iterator[T]:
        if up:
            low = 0 if cursor is None else bisect_right(rows, wrap(cursor), key=rank)
            indices = range(low, len(rows))
        else:
            high = len(rows) if cursor is None else bisect_left(rows, wrap(cursor), key=rank)
            indices = range(high - 1, -1, -1)
        return (rows[i] for i in indices if where is None or where(rows[i]))

    # With `descending`, what comes after a key in the listing comes before it in the rows.
    found = list(islice(walk(start, up=backwards == descending), count))
    if backwards:
        found.reverse()
    following = preceding = None
    if found:
        first, last = key(found[0]), key(found[-1])
        if next(walk(last, up=not descending), None) is not None:
            following = _token(call, count, False, last)
        if next(walk(first, up=descending), None) is not None:
            preceding = _token(call, count, True, first)
    return Answer(
        200,
        {
            "collection": [render(row) for row in found],
            "pagination": {
                "count": len(found),
                "next_page": _link(call, count, following),
                "previous_page": _link(call, count, preceding),
                "next_page_token": following,
                "previous_page_token": preceding,
            },
        },
    )


def sorted_page(
    call: Call,
    rows: Iterable[T],
    order: list[tuple[str, bool]],
    value: Callable[[T, str], Any],
    uuid: Callable[[T], str],
    render: Callable[[T], Any],
) -> Answer:
    """One page of a short listing, which is sorted here by any fields in any directions."""

    def key(row: T) -> Key:
        return [*(value(row, name) for name, _ in order), uuid(row)]

    def wrap(plain: Key) -> Key:
        directions = (*(descending for _, descending in order), False)
        return [_Reversed(v) if down else v for v, down in zip(plain, directions, strict=True)]

    return page(call, sorted(rows, key=lambda row: wrap(key(row))), key, render, wrap=wrap)


def _start(call: Call) -> tuple[int, bool, Key | None]:
    """The requested page: its count, whether it is read backwards, and the key where it begins (None: at the start)."""
    text = call.query.get("count")
    if text is not None and not (text.isascii() and text.isdecimal() and 1 <= int(text) <= 100):
        raise invalid(("count", "invalid"))
    count = int(text) if text is not None else None
    token = call.query.get("page_token")
    if token is None:
        return count or 20, False, None
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise invalid(("page_token", "invalid")) from None
    signature, content = raw[:12], raw[12:]
    if not hmac.compare_digest(signature, _signature(call, content)):
        raise invalid(("page_token", "invalid"))
    bound, backwards, issued, cursor = json.loads(content)
    expired = call.world.clock.now().timestamp() - issued > TOKEN_LIFETIME.total_seconds()
    if expired or (count is not None and count != bound):
        raise invalid(("page_token", "invalid"))
    return bound, bool(backwards), cursor


def _scope(call: Call) -> str:
    """What a token is bound to in addition to its own content."""
    filters = sorted((k, v) for k, v in call.query.items() if k not in ("count", "page_token"))
    scope = [call.caller.uuid, call.route.template, sorted(call.params.items()), filters]
    return json.dumps(scope)


def _signature(call: Call, content: bytes) -> bytes:
    text = _scope(call).encode() + b"\n" + content
    return hmac.new(call.world.secret, text, hashlib.sha256).digest()[:12]


def _token(call: Call, count: int, backwards: bool, key: Key) -> str:
    issued = call.world.clock.now().timestamp()
    content = json.dumps([count, int(backwards), int(issued), key], separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(_signature(call, content) + content).decode().rstrip("=")


def _link(call: Call, count: int, token: str | None) -> str | None:
    if token is None:
        return None
    path = call.route.template.format(**call.params)
    query = {**call.query, "count": count, "page_token": token}
    return f"{API}{path}?{urlencode(query)}"
