"""Markdown for artifacts: text from outside is escaped, and pages fit a phone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from prefect_calendly.client import RequestMeter
from prefect_calendly.client.errors import CalendlyError, printable


def escape_cell(value: Any) -> str:
    """Return a value as text for a cell of a markdown table: no markup, no line break, no cell border of its own."""
    return re.sub(r"([\\`*_{}\[\]<>|#~])", r"\\\1", printable(str(value)))


def markdown_table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Return a markdown table; the cells of its rows are escaped."""
    lines = [list(header)]
    body = [[escape_cell(value) for value in row] for row in rows]
    lines.append(["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in [*lines, *body])


def soft_wrap(markdown: str, letters: int) -> str:
    """Let long words break, and keep addresses from becoming links.

    In Prefect's UI a column is as wide as its longest word. And it turns whatever looks like an address into a link,
    which nobody should click in a name that a stranger has chosen.

    Args:
        markdown: Text without links, images and code.
        letters: After how many characters a word may break.
    """
    cut = re.sub(rf"((?:\\.|[^\s\\-]){{{letters}}})(?=[^\s-])", "\\1\u200b", markdown)
    return re.sub(r"(?<=:)(?=//)|(?<=www)(?=\.)|(?=@)", "\u200b", cut, flags=re.IGNORECASE)


def cost(meter: RequestMeter, seconds: float, requests: int | None = None) -> list[str]:
    """Return what a run has cost, as lines for its artifact.

    Args:
        meter: Has counted its requests.
        seconds: How long it took.
        requests: How many requests it took, if the meter has counted only some of them.
    """
    lines = [
        f"{pluralize(meter.requests if requests is None else requests, 'request')}, {meter.repeats} of them repeats",
        f"{seconds:.1f} s, {meter.seconds_waited:.1f} s of it waiting for limits",
    ]
    if meter.least_left is not None:
        of = "requests" if meter.limit is None else f"{pluralize(meter.limit, 'request')} a minute"
        lines.append(f"at least {meter.least_left} of Calendly's {of} were left")
    return lines


def short_error(error: CalendlyError) -> str:
    """Return a Calendly error in one short line."""
    return f"{type(error).__name__}: {error.message}"[:200]


def pluralize(number: int, what: str) -> str:
    """Return a number with its noun.

    Example:
        >>> pluralize(1, "event"), pluralize(2, "event")
        ('1 event', '2 events')
    """
    return f"{number} {what}{'' if number == 1 else 's'}"


def sections(title: str, parts: Mapping[str, Iterable[str]]) -> str:
    """Return a markdown page with a list under each heading; empty lists are left out."""
    lines = [f"# {title}"]
    for heading, items in parts.items():
        shown = [f"- {item}" for item in items]
        lines += [f"\n## {heading}\n", *shown] if shown else []
    return "\n".join(lines)
