"""Secrets that no error may show, in whatever spelling a server repeats them."""

from __future__ import annotations

import html
import re
import threading
import weakref
from typing import Final
from urllib.parse import unquote

# What is shorter is no secret, and would be found in every second text.
_SHORTEST: Final = 6


class Secret:
    """A text that `hide_secrets` takes out of others, for as long as this object lives.

    Args:
        text: The secret; a very short one is none.

    Example:
        >>> key = Secret("k3y+of/mine")
        >>> hide_secrets("no such key: k3y+of/mine")
        'no such key: ***'
    """

    def __init__(self, text: str) -> None:
        self.text = text
        if len(text) >= _SHORTEST:
            with _lock:
                _in_use.add(self)


_in_use: Final[weakref.WeakSet[Secret]] = weakref.WeakSet()
_lock: Final = threading.Lock()


def hide_secrets(text: str) -> str:
    """Return a text without the secrets that are in use in this process: the keys of clients, and what they send.

    A text that has one in another spelling, as JSON, URLs and HTML know them, is hidden whole.
    """
    with _lock:
        secrets = [secret.text for secret in _in_use]
    for secret in secrets:
        text = text.replace(secret, "***")
    plain = _decoded(text)
    return "***" if any(_decoded(secret) in plain for secret in secrets) else text


def _decoded(text: str) -> str:
    if "\\" in text or "%" in text or "&" in text:
        text = re.sub(r"(?<!\\)\\++u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), text)
        text = html.unescape(unquote(text.replace("\\", "")))
    return text.casefold()
