"""Domains and e-mail addresses in the one form that can be compared, and as fields of a form."""

from __future__ import annotations

import functools
import re
import unicodedata
from dataclasses import dataclass, field
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


@dataclass(frozen=True, slots=True)
class Address:
    """An e-mail address in the one form that can be compared."""

    local: str = field(repr=False)
    """In lower case, without quotes."""
    domain: str
    """As `comparable_domain` returns it."""


_QUOTED = r'"(?:[^"\\]|\\.)*"'
_COMMENT = re.compile(rf"({_QUOTED})|\((?:[^()\\]|\\.)*\)", re.DOTALL)
# Of what means something to a mail server, only quotes around the local part, or a word of it.
_PLAIN_ADDRESS = re.compile(
    rf"(?P<local>(?:{_QUOTED}|[^\s\"\\()<>\[\],:;@]++|@)*)@(?P<domain>[\w.\-\x80-\U0010ffff]+)", re.DOTALL
)
_LONGEST_ADDRESS = 1_000


def read_address(text: str) -> Address | None:
    """Read an e-mail address as a mail server does: without blanks, comments, quotes, and a name before it.

    Args:
        text: The address, as somebody has typed it.

    Returns:
        The address; None if it is no plain one: a group, several addresses, an IP address, or none at all.

    Example:
        >>> read_address('"Jane" (from work) <"jane"@Mail.Example>')
        Address(domain='mail.example')
    """
    if len(text) > _LONGEST_ADDRESS:
        return None
    found = _PLAIN_ADDRESS.fullmatch(text) if text.isascii() else None
    if found is None:
        found = _PLAIN_ADDRESS.fullmatch(_without_extras(unicodedata.normalize("NFKC", text)))
    domain = comparable_domain(found["domain"]) if found else ""
    if found is None or not domain or not domain.isprintable():
        return None
    local = found["local"].casefold()
    if '"' in local:
        local = re.sub(_QUOTED, lambda quoted: re.sub(r"\\(.)", r"\1", quoted[0][1:-1]), local, flags=re.DOTALL)
    return Address(local, domain)


def _without_extras(text: str) -> str:
    """Return an address without comments, the name before it, and blanks that mean nothing."""
    while (shorter := _COMMENT.sub(lambda found: found[1] or " ", text)) != text:  # comments may be nested
        text = shorter
    if named := re.fullmatch(r"[^<>@]*<([^<>]*)>\s*", text):
        text = named[1]
    return re.sub(r"\s*([@.\u3002])\s*", r"\1", text.strip())


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
    address = read_address(text)
    if address is None or not address.local or re.search(r"[@\s]", address.local):
        raise ValueError("must be an e-mail address such as jane@example.com")
    return f"{address.local}@{normal_domain(address.domain)}"


def comparable_domain(text: str) -> str:
    """Return any domain in a form that can be compared with normal ones, also one that breaks the rules.

    Label by label, so that an underscore or an emoji in one of them is no way around a list.

    Example:
        >>> comparable_domain("under_score.Bücher.example")
        'under_score.xn--bcher-kva.example'
    """
    return ".".join(_comparable_label(label) for label in re.split(r"[.\u3002\uff0e\uff61]", text) if label)


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
    """Hide who an address belongs to and keep its domain: `b…@example.com`; of what is no address, keep a letter."""
    address = read_address(email)
    if address is None:
        return f"{email[:1].strip('…')}…"
    local, _, domain = email.rpartition("@")
    if '"' in email or not _PLAIN_ADDRESS.fullmatch(email):
        local, domain = address.local.strip('"\\()<>[],:; '), address.domain
    return f"{local[:1].strip('…')}…@{domain}"


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
