"""Domains and addresses, in the one form that can be compared."""

from __future__ import annotations

import re
from typing import Annotated

import idna
from pydantic import AfterValidator, Field

_DOMAIN = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))+")


def normal_domain(text: str) -> str:
    """Return a domain in the one form that can be compared: lower case, IDN as punycode, no dot at the end.

    Args:
        text: A domain such as `Bücher.example`.

    Returns:
        The domain, such as `xn--bcher-kva.example`.

    Raises:
        ValueError: It is no domain.

    Example:
        >>> normal_domain("Bücher.Example.")
        'xn--bcher-kva.example'
    """
    wanted = "a domain such as example.com, without @, path or wildcard"
    stripped = text.strip().rstrip(".")
    if "@" in stripped or "/" in stripped or "*" in stripped:
        raise ValueError(f"must be {wanted}")
    try:
        domain = idna.encode(stripped, uts46=True).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError):
        raise ValueError(f"must be {wanted}") from None
    if not _DOMAIN.fullmatch(domain):
        raise ValueError(f"must be {wanted}")
    return domain


def comparable_domain(text: str) -> str:
    """Return any domain in a form that can be compared with normal ones, also one that breaks the rules.

    Label by label, so that an underscore or an emoji in one of them is no way around a list.

    Example:
        >>> comparable_domain("under_score.Bücher.example")
        'under_score.xn--bcher-kva.example'
    """
    return ".".join(
        _comparable_label(label) for label in re.split(r"[.\u3002\uff0e\uff61]", text.strip(" <>")) if label
    )


def _comparable_label(label: str) -> str:
    try:
        return idna.encode(label, uts46=True).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError):
        return label.lower()


def mask_email(email: str) -> str:
    """Hide who an address belongs to and keep its domain: `b…@example.com`."""
    local, _, domain = email.rpartition("@")
    return f"{local[:1]}…@{domain}"


_LABEL = r"[^\s@/*:_.。．｡-](-*[^\s@/*:_.。．｡-])*"
_DOMAIN_IN_FORM = rf"(?#use a domain such as spam.example)^\s*{_LABEL}([.。．｡]{_LABEL})+[.。．｡]?\s*$"

# What a form refuses by itself. Prefect shows the pattern to the person: its comment says what is wanted.
Domain = Annotated[
    str,
    AfterValidator(normal_domain),
    Field(json_schema_extra={"pattern": _DOMAIN_IN_FORM}),
]
