"""Calling the control surface of a running sandbox, from this process or another."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from .model import iso
from .seed import time_of

# The sandbox is on this machine: no proxy is asked.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def control(url: str, method: str, path: str, body: Any = None, **query: Any) -> dict[str, Any]:
    """The answer to a control call, such as `control(url, "GET", "/stats")`.

    Raises:
        ValueError: The sandbox does not take it; its words say why. Or the URL is none.
        OSError: Nobody answers.
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
    raise ValueError(f"no sandbox, or one of another version: HTTP {status} from {method} /_sandbox{path}")


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return iso(time_of(value))
    raise TypeError(f"{value!r} is not JSON")
