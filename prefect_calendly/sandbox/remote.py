"""Calling the control surface of a running sandbox, in this process or another."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from prefect_calendly.sandbox.clock import iso, parse_time

# Without proxies, because the sandbox is on this machine.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def control(url: str, method: str, path: str, body: Any = None, **query: Any) -> dict[str, Any]:
    """Call the control surface of a running sandbox.

    Args:
        url: Base URL of the sandbox, without a slash at its end.
        method: HTTP method.
        path: Path below `/_sandbox`.
        body: JSON body; datetimes are allowed, and are taken as UTC if naive.
        query: Query parameters.

    Returns:
        The decoded answer.

    Raises:
        ValueError: The sandbox does not accept the call (the message says why), or the URL is not that of a sandbox.
        OSError: The sandbox is not running.

    Example:
        >>> control(sandbox.url, "GET", "/stats")["requests"]
        0
    """
    target = f"{url}/_sandbox{path}" + (f"?{urlencode(query)}" if query else "")
    content = None if body is None else json.dumps(body, default=_plain).encode()
    request = urllib.request.Request(  # noqa: S310 - the sandbox's URL
        target, content, {"content-type": "application/json"}, method=method
    )
    try:
        with _OPENER.open(request) as response:
            status, found = response.status, _parsed(response.read())
    except urllib.error.HTTPError as error:
        with error:
            status, found = error.code, _parsed(error.read())
    if status == 200 and isinstance(found, dict):
        return found
    if status == 400 and isinstance(found, dict) and "error" in found:
        raise ValueError(found["error"])
    raise ValueError(f"not a sandbox, or one of another version: HTTP {status} from {method} /_sandbox{path}")


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return iso(parse_time(value))
    raise TypeError(f"{value!r} is not JSON")
