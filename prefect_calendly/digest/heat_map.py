"""A heat map as an SVG picture for markdown artifacts: a row per host, two tiles per day, in light and dark mode."""

from __future__ import annotations

import base64
import textwrap
import unicodedata
from collections.abc import Sequence
from itertools import groupby
from typing import Final, Literal, NamedTuple
from xml.sax.saxutils import escape

from prefect_calendly.client.errors import printable

Look = Literal["full", "mostly-full", "half", "mostly-free", "free", "closed", "unknown", "past"]

SCALE: Final[Sequence[Look]] = ("full", "mostly-full", "half", "mostly-free", "free")
"""From full to free, drawn from dark to pale: legible without colors, as for color-blind people and in print."""

DAYS_PER_MAP: Final = 7
"""As many as fit the width of a phone, so that the text is not scaled down."""

# In pixels. A phone is 390 wide, of which Prefect's page leaves 358 to the picture.
_NAME_WIDTH, _DAY_WIDTH, _TILE_WIDTH, _TILE_HEIGHT = 92, 38, 36, 16
_WIDTH = _NAME_WIDTH + DAYS_PER_MAP * _DAY_WIDTH
_HEADER_HEIGHT, _ROW_HEIGHT = 56, 2 * _TILE_HEIGHT + 8
_DESKTOP_SCALE = 1.3
# How many characters fit a line of the name column; ideographs are twice as wide.
_CHARACTERS, _IDEOGRAPHS = 13, 7

# Prefect sets `color-scheme` to its own theme, and the media query follows that.
_STYLE = """
text{font:11px system-ui,sans-serif;fill:#27272a}
g text{text-anchor:middle}
path{stroke:#8a8a93;stroke-width:.75;fill:none}
.full path{fill:#0c2c84}.mostly-full path{fill:#225ea8}.half path{fill:#41b6c4}
.mostly-free path{fill:#7fcdbb}.free path{fill:#c7e9b4}
.closed path{stroke:none}.unknown path{stroke-dasharray:3 2}
@media(prefers-color-scheme:dark){text{fill:#e4e4e7}}
.full text,.mostly-full text{fill:#fff}.half text,.mostly-free text,.free text{fill:#111}
"""


class Tile(NamedTuple):
    """Half a day."""

    look: Look
    text: str


class Row(NamedTuple):
    """A name and its days: of each, the upper and the lower tile."""

    name: str
    days: Sequence[tuple[Tile, Tile]]


def heat_map(title: str, days: Sequence[tuple[str, str]], rows: Sequence[Row]) -> str:
    """Draw a heat map.

    Args:
        title: What it shows.
        days: The two lines above each column, such as `("Mon", "2 Mar")`; at most `DAYS_PER_MAP` columns.
        rows: One row per name, with as many days. Names may be any text.

    Returns:
        SVG.
    """
    # At the top is the scale: a tile of each look, between the words full and free.
    placed = [(number + 1, 4, Tile(look, "")) for number, look in enumerate(SCALE)]
    labels = [_label(_x(0) + _TILE_WIDTH / 2, 16, "full"), _label(_x(DAYS_PER_MAP - 1) + _TILE_WIDTH / 2, 16, "free")]
    for number, lines in enumerate(days):
        labels += [_label(_x(number) + _TILE_WIDTH / 2, 38 + 13 * line, text) for line, text in enumerate(lines)]
    names = []
    for position, row in enumerate(rows):
        top = _HEADER_HEIGHT + position * _ROW_HEIGHT
        names.append(_name(row.name, top))
        for number, halves in enumerate(row.days):
            placed += [(number, top + half * (_TILE_HEIGHT + 1), tile) for half, tile in enumerate(halves)]
    tiles = []
    for look, group in groupby(sorted(placed, key=lambda item: item[2].look), key=lambda item: item[2].look):
        if look != "past":
            tiles.append(f'<g class="{look}">{_tiles(list(group))}</g>')
    height = _HEADER_HEIGHT + len(rows) * _ROW_HEIGHT
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH * _DESKTOP_SCALE:g}" viewBox="0 0 {_WIDTH} {height}">'
        f"<title>{_text(title)}</title><style>{_STYLE}</style>{''.join(names)}<g>{''.join(labels)}</g>{''.join(tiles)}</svg>"
    )


def image(svg: str, alt: str) -> str:
    """Return markdown with a picture inline, as a data URL.

    Args:
        svg: The picture.
        alt: Text for those who do not see it, without markup.

    Returns:
        Markdown.
    """
    return f"![{alt}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"


def _x(day: int) -> int:
    return _NAME_WIDTH + day * _DAY_WIDTH


def _tiles(placed: Sequence[tuple[int, int, Tile]]) -> str:
    """Draw all tiles of one look as one path, a third of the size of as many rectangles."""
    path = "".join(f"M{_x(day)} {top}h{_TILE_WIDTH}v{_TILE_HEIGHT}h-{_TILE_WIDTH}z" for day, top, _ in placed)
    texts = [_label(_x(day) + _TILE_WIDTH / 2, top + 12, tile.text) for day, top, tile in placed if tile.text]
    return f'<path d="{path}"/>{"".join(texts)}'


def _label(x: float, y: int, text: str) -> str:
    return f'<text x="{x:g}" y="{y}">{_text(text)}</text>'


def _name(name: str, top: int) -> str:
    """Write a name in at most two lines, shortened if it is longer, clipped to its column by an inner picture."""
    name = printable(name)
    width = _IDEOGRAPHS if any(unicodedata.east_asian_width(character) in "WF" for character in name) else _CHARACTERS
    lines = textwrap.wrap(name, width)
    if len(lines) > 2:
        lines = [lines[0], f"{lines[1][: width - 1]}…"]
    first = 21 if len(lines) == 1 else 14
    texts = [f'<text y="{first + 13 * number}">{_text(line)}</text>' for number, line in enumerate(lines)]
    return f'<svg y="{top}" width="{_NAME_WIDTH - 4}" height="{_ROW_HEIGHT}">{"".join(texts)}</svg>'


def _text(text: str) -> str:
    return escape(printable(text))
