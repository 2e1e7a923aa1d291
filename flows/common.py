"""What the ready flows share: form field types, safe text for artifacts and logs, notifications."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import idna
from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block
from prefect.logging import get_run_logger
from pydantic import AfterValidator, BaseModel, ConfigDict

from prefect_calendly.errors import printable
from prefect_calendly.resource import zone_names

_DOMAIN = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))+")
_FLOWS = ("cancel-blocked-domains", "availability-digest", "ensure-webhook-subscription")
_BLOCK_REFERENCE = re.compile(r"[a-z0-9-]+/[a-z0-9-]+")


class _WithoutParameters(logging.Filter):
    """Prefect logs all parameters when one is wrong: of these flows without them, for they can hold secrets."""

    def filter(self, record: logging.LogRecord) -> bool:
        for name in _FLOWS:
            if record.getMessage().startswith(said := f"Parameter validation failed for flow {name!r}"):
                record.msg, record.args = f"{said}; the error says which parameter", ()
        return True


logging.getLogger("prefect.flows").addFilter(_WithoutParameters())


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


Domain = Annotated[str, AfterValidator(normal_domain)]
ZoneName = Annotated[str, AfterValidator(_zone_name)]
BlockReference = Annotated[str, AfterValidator(_block_reference)]


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


def counted(number: int, what: str) -> str:
    """Return a number of things in words.

    Example:
        >>> counted(1, "event"), counted(2, "event")
        ('1 event', '2 events')
    """
    return f"{number} {what}{'' if number == 1 else 's'}"


async def notify(reference: str | None, subject: str, body: str) -> str | None:
    """Send one message through a saved Prefect notification block; a failure is logged, never raised.

    Args:
        reference: Type and name of the block, such as `slack-webhook/ops`; None sends nothing.
        subject: One line.
        body: The message.

    Returns:
        What went wrong; None if nothing did.
    """
    if reference is None:
        return None
    try:
        block: Any = await Block.aload(reference)
        if not isinstance(block, NotificationBlock):
            raise TypeError("it is no notification block")
        with block.raise_on_failure():
            sent = getattr(block, "anotify", None)  # newer blocks have both; `notify` alone is async
            await (sent or block.notify)(body, subject)
    except Exception as error:  # whatever a notifier does, the work itself is done
        # Not the error's own text: a webhook's URL is a secret, and libraries like to quote it.
        problem = f"The notification through {reference} failed ({type(error).__name__})."
        get_run_logger().warning("%s The flow itself goes on.", problem)
        return problem
    return None
