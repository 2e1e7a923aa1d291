"""A heat map as a picture for markdown artifacts: a row per name, two tiles per day; legible in light and dark."""

from __future__ import annotations

import base64
import textwrap
import unicodedata
from collections.abc import Sequence
from itertools import groupby
from typing import Final, Literal, NamedTuple
from xml.sax.saxutils import escape

from prefect_calendly.client.errors import printable

Look = Literal["full", "busy", "half", "airy", "free", "closed", "unknown", "nothing"]

SCALE: Final[Sequence[Look]] = ("full", "busy", "half", "airy", "free")
"""Looks from full to free: from dark to pale, which everybody can tell apart, in print too."""

DAYS: Final = 7
"""How many days fit beside each other: the picture is as wide as a phone shows, so that its text keeps its size."""

# Pixels. Prefect's page leaves 358 of a phone's 390.
_WIDE = 1.3
_NAMES, _DAY, _TILE, _HEIGHT = 92, 38, 36, 16
_WIDTH = _NAMES + DAYS * _DAY
_HEAD, _ROW = 56, 2 * _HEIGHT + 8
# What fits into the column of names; ideographs are twice as wide.
_LETTERS, _IDEOGRAPHS = 13, 7

# Prefect sets `color-scheme`: the dark colors go with the theme chosen there.
_STYLE = """
text{font:11px system-ui,sans-serif;fill:#27272a}
g text{text-anchor:middle}
path{stroke:#8a8a93;stroke-width:.75;fill:none}
.full path{fill:#0c2c84}.busy path{fill:#225ea8}.half path{fill:#41b6c4}.airy path{fill:#7fcdbb}.free path{fill:#c7e9b4}
.closed path{stroke:none}.unknown path{stroke-dasharray:3 2}
@media(prefers-color-scheme:dark){text{fill:#e4e4e7}}
.full text,.busy text{fill:#fff}.half text,.airy text,.free text{fill:#111}
"""


class Tile(NamedTuple):
    """What one half of a day looks like."""

    look: Look
    text: str


class Row(NamedTuple):
    """A name and its days, each an upper and a lower tile."""

    name: str
    days: Sequence[tuple[Tile, Tile]]


def heat_map(title: str, days: Sequence[tuple[str, str]], rows: Sequence[Row]) -> str:
    """Draw a heat map.

    Args:
        title: What it shows.
        days: Two lines over each column, such as `("Mon", "2 Mar")`; at most `DAYS` of them.
        rows: Names, of any text, with as many days.

    Returns:
        SVG.
    """
    placed = [(number + 1, 4, Tile(look, "")) for number, look in enumerate(SCALE)]
    words = [_word(_x(0) + _TILE / 2, 16, "full"), _word(_x(6) + _TILE / 2, 16, "free")]
    for number, lines in enumerate(days):
        words += [_word(_x(number) + _TILE / 2, 38 + 13 * line, text) for line, text in enumerate(lines)]
    names = []
    for position, row in enumerate(rows):
        top = _HEAD + position * _ROW
        names.append(_name(row.name, top))
        for number, halves in enumerate(row.days):
            placed += [(number, top + half * (_HEIGHT + 1), tile) for half, tile in enumerate(halves)]
    tiles = []
    for look, alike in groupby(sorted(placed, key=lambda item: item[2].look), key=lambda item: item[2].look):
        if look != "nothing":
            tiles.append(f'<g class="{look}">{_tiles(list(alike))}</g>')
    height = _HEAD + len(rows) * _ROW
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH * _WIDE:g}" viewBox="0 0 {_WIDTH} {height}">'
        f"<title>{_text(title)}</title><style>{_STYLE}</style>{''.join(names)}<g>{''.join(words)}</g>{''.join(tiles)}</svg>"
    )


def image(svg: str, alt: str) -> str:
    """Return markdown that shows a picture which it holds itself.

    Args:
        svg: The picture.
        alt: What those are told who do not see it; no markup.
    """
    return f"![{alt}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"


def _x(day: int) -> int:
    return _NAMES + day * _DAY


def _tiles(placed: Sequence[tuple[int, int, Tile]]) -> str:
    """Draw tiles of one look: one path for all, which is a third of the size of as many rectangles."""
    path = "".join(f"M{_x(day)} {top}h{_TILE}v{_HEIGHT}h-{_TILE}z" for day, top, _ in placed)
    texts = [_word(_x(day) + _TILE / 2, top + 12, tile.text) for day, top, tile in placed if tile.text]
    return f'<path d="{path}"/>{"".join(texts)}'


def _word(x: float, y: int, text: str) -> str:
    return f'<text x="{x:g}" y="{y}">{_text(text)}</text>'


def _name(name: str, top: int) -> str:
    """Write a name in one or two lines; what is longer is cut off. The inner picture lets nothing out of its column."""
    name = printable(name)
    letters = _IDEOGRAPHS if any(unicodedata.east_asian_width(letter) in "WF" for letter in name) else _LETTERS
    lines = textwrap.wrap(name, letters)
    if len(lines) > 2:
        lines = [lines[0], f"{lines[1][: letters - 1]}…"]
    first = 21 if len(lines) == 1 else 14
    texts = [f'<text y="{first + 13 * number}">{_text(line)}</text>' for number, line in enumerate(lines)]
    return f'<svg y="{top}" width="{_NAMES - 4}" height="{_ROW}">{"".join(texts)}</svg>'


def _text(text: str) -> str:
    return escape(printable(text))
