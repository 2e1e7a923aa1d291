"""Texts for artifacts and forms: what comes from outside marks nothing up, and pages fit a phone."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any, Final

from prefect_calendly.client import RequestMeter
from prefect_calendly.client.errors import CalendlyError, printable

_BREAK: Final = "\u200b"
_ISOLATE: Final = "\u2068{}\u2069"
# What can mark up text wherever it stands becomes what looks the same: asterisk, backtick, tilde, vertical bar.
_LOOK_ALIKES: Final = str.maketrans("*`~|", "\u2217\u02cb\u223c\u2223")
_UNDERSCORES: Final = re.compile(r"(?<!\w)_+|_+(?!\w)")
_BREAKS: Final = re.compile(
    r"^(?=[#>=]|(?:[+-]|\d{1,9}[.)])(?!\w))"  # headings, quotations, lists
    r"|(?<=[\\\]<])|(?<=&)(?=#?\w+;)"  # escapes, links and images, HTML, entities
    r"|(?<=[\w.+-]@)|(?<=:)(?=//)|(?<=www)(?=\.)",  # addresses of all kinds, which become links without any markup
    re.IGNORECASE | re.ASCII,
)


def escape(value: Any, longest_word: int | None = None) -> str:
    """Return a value as one line of text that looks the same everywhere, whether it is taken for markdown or not.

    Prefect's older UI takes the cells of table artifacts for markdown, the newer one shows them as they are. So nothing
    is escaped with a character that could be seen: breaks without width keep markup, links and entities from being any,
    and the four characters that this does not stop are replaced. Writing in the other direction stays within the text.

    Args:
        value: A text from anywhere, or what becomes one.
        longest_word: After how many characters a word may break: a column is as wide as its longest word.

    Returns:
        Text for a cell, a list item, a paragraph or the text of a link; escaped again, it stays the same.

    Example:
        >>> escape("1|2\\n3").encode("ascii", "backslashreplace").decode()
        '1\\\\u22232 3'
    """
    text = _UNDERSCORES.sub(rf"{_BREAK}\g<0>{_BREAK}", printable(str(value)).translate(_LOOK_ALIKES))
    text = _BREAKS.sub(_BREAK, text)
    if longest_word is not None:
        text = re.sub(rf"([^\s{_BREAK}-]{{{longest_word}}})(?=[^\s{_BREAK}-])", rf"\1{_BREAK}", text)
    turned = any(unicodedata.bidirectional(letter) in ("R", "AL", "AN") for letter in text)
    return _ISOLATE.format(text) if turned else text


def markdown_table(header: Iterable[str], rows: Iterable[Iterable[Any]], longest_word: int | None = None) -> str:
    """Return a markdown table; the cells of its rows are escaped."""
    lines = [list(header)]
    body = [[escape(value, longest_word) for value in row] for row in rows]
    lines.append(["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in [*lines, *body])


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
    """Return a markdown page with a list under each heading; the title is escaped, empty lists are left out."""
    lines = [f"# {escape(title)}"]
    for heading, items in parts.items():
        shown = [f"- {item}" for item in items]
        lines += [f"\n## {heading}\n", *shown] if shown else []
    return "\n".join(lines)
