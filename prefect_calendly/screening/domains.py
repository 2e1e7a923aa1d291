"""Domains and e-mail addresses in the one form that can be compared, and as fields of a form."""

from __future__ import annotations

import functools
import re
from typing import Annotated

import idna
from publicsuffixlist import PublicSuffixList
from pydantic import AfterValidator, Field, StringConstraints

from prefect_calendly.runs.forms import form_pattern

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


def normal_email(text: str) -> str:
    """Return an e-mail address in the one form that can be compared: lower case, its domain as `normal_domain`.

    Args:
        text: An address such as `Jane@Example.com`.

    Returns:
        The address, such as `jane@example.com`.

    Raises:
        ValueError: It is no address.

    Example:
        >>> normal_email(" Jane@Bücher.Example")
        'jane@xn--bcher-kva.example'
    """
    local, _, domain = text.strip().rpartition("@")
    if not local or "@" in local or any(letter.isspace() for letter in local):
        raise ValueError("must be an e-mail address such as jane@example.com")
    return f"{local.casefold()}@{normal_domain(domain)}"


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
    if label.isascii():  # the way of almost all: some 100 times faster, and with the same result
        return label.lower()
    try:
        return idna.encode(label, uts46=True).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError):
        return label.lower()


def registrable_domain(domain: str) -> str:
    """Return a domain if it can belong to somebody.

    Args:
        domain: As `normal_domain` returns it.

    Returns:
        The domain.

    Raises:
        ValueError: It is a public suffix such as `co.uk`, below which anybody can register a domain.

    Example:
        >>> registrable_domain("spam.co.uk")
        'spam.co.uk'
    """
    if _public_suffixes().is_public(domain):
        raise ValueError(
            "must be a domain that belongs to somebody, not a public suffix such as co.uk: that stands for everybody "
            "who has registered a domain below it. Block those domains themselves"
        )
    return domain


@functools.cache
def _public_suffixes() -> PublicSuffixList:
    # Only those of registries: below a company's, such as duckdns.org, all may well be unwanted.
    return PublicSuffixList(only_icann=True)


def mask_email(email: str) -> str:
    """Hide who an address belongs to and keep its domain: `b…@example.com`."""
    local, _, domain = email.rpartition("@")
    return f"{local[:1]}…@{domain}"


def _unique(values: list[str]) -> list[str]:
    return list(dict.fromkeys(values))


_LABEL = r"[^\s@/*:_.。．｡-](-*[^\s@/*:_.。．｡-])*"
_DOMAIN_IN_FORM = rf"^\s*{_LABEL}([.。．｡]{_LABEL})+[.。．｡]?\s*$"

Domain = Annotated[
    str,
    StringConstraints(max_length=253),
    AfterValidator(normal_domain),
    Field(json_schema_extra=form_pattern(_DOMAIN_IN_FORM, "a domain such as spam.example")),
]
RegistrableDomain = Annotated[Domain, AfterValidator(registrable_domain)]
Email = Annotated[
    str,
    StringConstraints(max_length=320),
    AfterValidator(normal_email),
    Field(json_schema_extra=form_pattern(r"^\s*[^@\s]+@[^@\s]+\s*$", "an address such as jane@example.com")),
]
RegistrableDomains = Annotated[list[RegistrableDomain], AfterValidator(_unique)]
Domains = Annotated[list[Domain], AfterValidator(_unique)]
Emails = Annotated[list[Email], AfterValidator(_unique)]
