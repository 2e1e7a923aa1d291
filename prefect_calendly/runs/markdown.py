"""Markdown for artifacts: text that strangers have chosen is made safe, and every page fits a phone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from prefect_calendly.client import RequestMeter
from prefect_calendly.client.errors import CalendlyError, printable


def escape_cell(value: Any) -> str:
    """Make a value safe inside a markdown table: no markup, no line break, no cell border of its own."""
    return re.sub(r"([\\`*_{}\[\]<>|#~])", r"\\\1", printable(str(value)))


def markdown_table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Return a markdown table; its cells are made safe."""
    lines = [list(header)]
    body = [[escape_cell(value) for value in row] for row in rows]
    lines.append(["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in [*lines, *body])


def soft_wrap(markdown: str, letters: int) -> str:
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
        f"{pluralize(meter.requests if requests is None else requests, 'request')}, {meter.repeats} of them repeats",
        f"{seconds:.1f} s, {meter.seconds_waited:.1f} s of it waiting for limits",
    ]
    if meter.least_left is not None:
        of = "requests" if meter.limit is None else f"{pluralize(meter.limit, 'request')} a minute"
        lines.append(f"at the least, {meter.least_left} of Calendly's {of} were left")
    return lines


def short_error(error: CalendlyError) -> str:
    """Return an error of Calendly in one short line."""
    return f"{type(error).__name__}: {error.message}"[:200]


def pluralize(number: int, what: str) -> str:
    """Return a number of things in words.

    Example:
        >>> pluralize(1, "event"), pluralize(2, "event")
        ('1 event', '2 events')
    """
    return f"{number} {what}{'' if number == 1 else 's'}"


def sections(title: str, parts: Mapping[str, Iterable[str]]) -> str:
    """Return a page of lists, without those that are empty."""
    lines = [f"# {title}"]
    for heading, items in parts.items():
        shown = [f"- {item}" for item in items]
        lines += [f"\n## {heading}\n", *shown] if shown else []
    return "\n".join(lines)
