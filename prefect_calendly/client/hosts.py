"""Where the key goes: the base URLs of the two hosts, and the checks of URLs and keys."""

from __future__ import annotations

import ipaddress
from typing import Final, Literal
from urllib.parse import urlsplit

DEFAULT_GATEWAY_URL: Final = "https://gateway.maton.ai/calendly"
DEFAULT_CONNECTIONS_URL: Final = "https://ctrl.maton.ai"

Host = Literal["gateway", "connections"]
"""Which of the two configured hosts a request goes to."""


def checked_base_url(url: str, name: str) -> str:
    """Check a base URL that the key is sent to: https, or http within this machine or its private network.

    Args:
        url: The URL; a slash at its end is dropped.
        name: What the caller calls it, for the error text.

    Returns:
        The URL without a slash at its end.

    Raises:
        ValueError: It is not such a URL.
    """
    wanted = f"{name} must be a plain URL such as {DEFAULT_GATEWAY_URL}: no user, query or fragment"
    try:
        parts = urlsplit(url.rstrip("/"))
        host, _ = parts.hostname or "", parts.port  # the port is checked when it is read
    except ValueError:
        raise ValueError(wanted) from None
    if not host.isascii() or host.endswith("."):  # other spellings of a host, which the checks below would not know
        raise ValueError(f"{name} must name its host in plain ASCII, without a dot at the end")
    if not host or parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(wanted)
    try:
        private = ipaddress.ip_address(host).is_private
    except ValueError:
        # Not a bare number: that would be the address of a public host in disguise.
        private = ("." not in host and not host[0].isdigit()) or host.endswith((".localhost", ".local", ".internal"))
    if parts.scheme != "https" and not (parts.scheme == "http" and private):
        raise ValueError(f"{name} must begin with https:// (http:// only within a private network)")
    return parts.geturl()


def checked_key(key: str) -> str:
    """Check an API key: not empty, and only characters that can stand in a header.

    Args:
        key: The key; blanks around it are dropped.

    Returns:
        The key without blanks around it.

    Raises:
        ValueError: It is not a key; the text does not repeat it.
    """
    key = key.strip()
    if not key:
        raise ValueError("there is no API key: fill in `api_key`, or set the environment variable MATON_API_KEY")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError("api_key has characters that no key has (blanks, line breaks, accents): copy it again")
    return key
