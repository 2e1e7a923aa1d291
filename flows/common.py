"""What the ready flows share: form field types, safe text for artifacts and logs."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import idna
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from prefect_calendly.client import RequestMeter
from prefect_calendly.client.errors import CalendlyError, printable
from prefect_calendly.resource import zone_names

_DOMAIN = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))+")
_FLOWS = (
    "cancel-blocked-domains",
    "availability-digest",
    "ensure-webhook-subscription",
    "poll-bookings",
    "reconcile-bookings",
    "screen-booking",
)
_BLOCK_REFERENCE = re.compile(r"[a-z0-9-]+/[a-z0-9-]+")


class _WithoutParameters(logging.Filter):
    """Prefect logs all parameters when one is wrong: of these flows without them, for they can hold secrets."""

    def filter(self, record: logging.LogRecord) -> bool:
        for name in _FLOWS:
            if record.getMessage().startswith(said := f"Parameter validation failed for flow {name!r}"):
                record.msg, record.args = f"{said}; the error says which parameter", ()
        return True


logging.getLogger("prefect.flows").addFilter(_WithoutParameters())


_unlogged_lock = threading.Lock()
_unlogged_blocks = 0


class _WithoutUrls(logging.Filter):
    """httpx logs every URL at INFO, urllib3 and apprise at DEBUG: some are secrets."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not _unlogged_blocks


for _logger in ("httpx", "urllib3.connectionpool", "apprise"):
    logging.getLogger(_logger).addFilter(_WithoutUrls())


@contextlib.contextmanager
def urls_unlogged() -> Iterator[None]:
    """Keep HTTP clients from logging URLs as long as the block lasts: in other threads too, where apprise sends."""
    global _unlogged_blocks
    with _unlogged_lock:
        _unlogged_blocks += 1
    try:
        yield
    finally:
        with _unlogged_lock:
            _unlogged_blocks -= 1


class Parameters(BaseModel):
    """Base of the flows' parameter models: immutable, misspelt fields refused, input not shown in errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


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


def _zone_name(name: str) -> str:
    if name not in zone_names():
        raise ValueError("must be an IANA time zone such as Europe/Berlin or America/New_York")
    return name


def _block_reference(reference: str) -> str:
    if not _BLOCK_REFERENCE.fullmatch(reference):
        raise ValueError("must be the type and name of a saved block, such as slack-webhook/ops")
    return reference


def in_form(position: int) -> Callable[[dict[str, Any]], None]:
    """Place an optional field in Prefect's form as an empty one, not as a choice between a type and nothing.

    Args:
        position: Where it stands, from 0.

    Returns:
        A value for `json_schema_extra`.
    """

    def change(schema: dict[str, Any]) -> None:
        # A default of null would be sent, and refused by what is left of the schema.
        schema.pop("default", None)
        schema.update(next(kind for kind in schema.pop("anyOf") if kind.get("type") != "null"), position=position)

    return change


def empty_is_none(value: Any) -> Any:
    """Take an empty text for nothing: what a form sends of a field that was filled in and emptied again."""
    return None if isinstance(value, str) and not value.strip() else value


_LABEL = r"[^\s@/*:_.。．｡-](-*[^\s@/*:_.。．｡-])*"
_DOMAIN_IN_FORM = rf"(?#use a domain such as spam.example)^\s*{_LABEL}([.。．｡]{_LABEL})+[.。．｡]?\s*$"

# What a form refuses by itself. Prefect shows the pattern to the person: its comment says what is wanted.
Domain = Annotated[
    str,
    AfterValidator(normal_domain),
    Field(json_schema_extra={"pattern": _DOMAIN_IN_FORM}),
]
ZoneName = Annotated[str, AfterValidator(_zone_name), Field(json_schema_extra={"enum": sorted(zone_names())})]
BlockReference = Annotated[
    str,
    AfterValidator(_block_reference),
    Field(
        max_length=200,
        json_schema_extra={"pattern": r"(?#use type/name, such as slack-webhook/ops)^([a-z0-9-]+/[a-z0-9-]+)?\Z"},
    ),
]
Notifier = Annotated[BlockReference | None, BeforeValidator(empty_is_none)]
"""Type and name of a saved notification block; an empty text is none."""


def zone(name: str | None) -> ZoneInfo:
    """Return a zone by its IANA name; UTC for one that is missing or unknown here (a server may know newer ones)."""
    return ZoneInfo(name) if name in zone_names() else ZoneInfo("UTC")


def cell(value: Any) -> str:
    """Make a value safe inside a markdown table: no markup, no line break, no cell border of its own."""
    return re.sub(r"([\\`*_{}\[\]<>|#~])", r"\\\1", printable(str(value)))


def markdown_table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Return a markdown table; its cells are made safe."""
    lines = [list(header)]
    body = [[cell(value) for value in row] for row in rows]
    lines.append(["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in [*lines, *body])


def breakable(markdown: str, letters: int) -> str:
    """Let long words of markdown break, and leave addresses in it without a link.

    Prefect's page, and a column in it, is never narrower than its longest word; and it makes links of whatever looks
    like an address, which nobody should click in a name that a stranger has chosen.

    Args:
        markdown: Text without links, pictures and code.
        letters: After how many letters a word may break.
    """
    cut = re.sub(rf"((?:\\.|[^\s\\-]){{{letters}}})(?=[^\s-])", "\\1\u200b", markdown)
    return re.sub(r"(?<=:)(?=//)|(?<=www)(?=\.)|(?=@)", "\u200b", cut, flags=re.IGNORECASE)


def cost(meter: RequestMeter, seconds: float, requests: int | None = None) -> list[str]:
    """Return what a run has cost, in lines for its artifact.

    Args:
        meter: Counts its requests.
        seconds: How long it took.
        requests: How many requests it took in all, where the meter counts only a part of them.
    """
    lines = [
        f"{counted(meter.requests if requests is None else requests, 'request')}, {meter.repeats} of them repeats",
        f"{seconds:.1f} s, {meter.seconds_waited:.1f} s of it waiting for limits",
    ]
    if meter.least_left is not None:
        of = "requests" if meter.limit is None else f"{counted(meter.limit, 'request')} a minute"
        lines.append(f"at the least, {meter.least_left} of Calendly's {of} were left")
    return lines


def in_short(error: CalendlyError) -> str:
    """Return an error of Calendly in one short line."""
    return f"{type(error).__name__}: {error.message}"[:200]


def counted(number: int, what: str) -> str:
    """Return a number of things in words.

    Example:
        >>> counted(1, "event"), counted(2, "event")
        ('1 event', '2 events')
    """
    return f"{number} {what}{'' if number == 1 else 's'}"
