"""A heat map is legible for everybody, in light and dark mode, on a phone, whatever the names are."""

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_calendly.digest import heat_map as module
from prefect_calendly.digest.heat_map import DAYS_PER_MAP, SCALE, Row, Tile, heat_map, image
from tests.digest.examples import few

SVG = "{http://www.w3.org/2000/svg}"
# The backgrounds of Prefect's pages.
LIGHT, DARK = (234, 234, 235), (38, 39, 43)


def drawn(*rows: Row, days: int = DAYS_PER_MAP) -> ElementTree.Element:
    return ElementTree.fromstring(heat_map("A week", [("Mon", str(number)) for number in range(days)], rows))


def texts(picture: ElementTree.Element) -> list[str]:
    return [str(element.text) for element in picture.iter(f"{SVG}text")]


def luminance(color: str | tuple[int, int, int]) -> float:
    """Relative luminance as WCAG 2 defines it."""
    if isinstance(color, str):
        digits = color.removeprefix("#")
        digits = "".join(digit * 2 for digit in digits) if len(digits) == 3 else digits
        color = (int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16))
    parts = [value / 255 for value in color]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str | tuple[int, int, int], other: str | tuple[int, int, int]) -> float:
    darker, lighter = sorted([luminance(one), luminance(other)])
    return (lighter + 0.05) / (darker + 0.05)


def color(selector: str, style: str = module._STYLE) -> str:
    """The `fill` that a style sheet gives last to what a selector names."""
    found = [
        fill for names, fill in re.findall(r"([^{}]+)\{[^}]*fill:(#\w+)", style) if selector in names.strip().split(",")
    ]
    return str(found[-1])


@pytest.mark.parametrize("look", SCALE)
def test_the_number_in_a_tile_stands_out_from_its_color(look: str) -> None:
    assert contrast(color(f".{look} path"), color(f".{look} text")) >= 4.5


def test_names_stand_out_in_both_themes() -> None:
    light, dark = module._STYLE.split("@media(prefers-color-scheme:dark){")
    assert contrast(color("text", light), LIGHT) >= 4.5
    assert contrast(color("text", dark), DARK) >= 4.5


def test_the_scale_grows_lighter_step_by_step_and_is_legible_without_colors() -> None:
    shades = [color(f".{look} path") for look in SCALE]
    assert [luminance(shade) for shade in shades] == sorted(luminance(shade) for shade in shades)
    assert all(contrast(darker, lighter) >= 1.3 for darker, lighter in pairwise(shades))


def test_it_is_as_wide_as_a_phone_and_only_grows_with_its_rows() -> None:
    rows = [Row("Ada", [(Tile("free", "1"), Tile("full", "0"))])]
    for days in (1, DAYS_PER_MAP):
        assert drawn(*rows, days=days).get("viewBox") == f"0 0 358 {module._HEADER_HEIGHT + module._ROW_HEIGHT}"
    assert drawn(*rows * 50).get("viewBox") == f"0 0 358 {module._HEADER_HEIGHT + 50 * module._ROW_HEIGHT}"


def test_each_tile_is_in_its_row_and_day_the_morning_above_the_afternoon() -> None:
    week = [(Tile("free", f"u{day}"), Tile("full", f"l{day}")) for day in range(DAYS_PER_MAP)]
    picture = drawn(Row("Ada", week), Row("Bo", week))
    found = {(text.text, int(text.get("y", 0))): float(text.get("x", 0)) for text in picture.iter(f"{SVG}text")}
    for (name, y), x in found.items():
        if name is not None and re.fullmatch(r"[ul]\d", name):
            assert x == module._NAME_WIDTH + int(name[1]) * module._DAY_WIDTH + module._TILE_WIDTH / 2
            row, below = divmod(y - 12 - module._HEADER_HEIGHT, module._ROW_HEIGHT)
            assert row in (0, 1)
            assert below == (0 if name[0] == "u" else module._TILE_HEIGHT + 1)
    corners = {
        group.get("class"): re.findall(r"M(\d+) (\d+)", str(path.get("d")))
        for group in picture.iter(f"{SVG}g")
        for path in group.iter(f"{SVG}path")
    }
    # Two rows of seven, and the scale.
    assert {look: len(found) for look, found in corners.items()} == dict.fromkeys(SCALE, 1) | {
        "free": 15,
        "full": 15,
    }
    assert all(int(x) + module._TILE_WIDTH <= 358 for found in corners.values() for x, _ in found)


def test_what_is_past_is_not_drawn() -> None:
    picture = drawn(Row("Ada", [(Tile("past", ""), Tile("closed", "–"))]))
    assert {group.get("class") for group in picture.iter(f"{SVG}g")} == {None, "closed", *SCALE}


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("Ada Lovelace", ["Ada Lovelace"]),
        ("Maximiliane von Habsburg-Lothringen", ["Maximiliane", "von Habsburg…"]),
        ("Donaudampfschifffahrtskapitän", ["Donaudampfsch", "ifffahrtskap…"]),
        ("山田太郎 (営業部・東京本社)", ["山田太郎 (営", "業部・東京本…"]),
        ("Ada \u202e evil\n\x00", ["Ada evil"]),
        ("", []),
    ],
)
def test_a_name_takes_at_most_two_lines_and_shows_when_it_is_cut(name: str, lines: list[str]) -> None:
    picture = drawn(Row(name, []))
    [column] = [inner for inner in picture.iter(f"{SVG}svg") if inner is not picture]
    assert texts(column) == lines
    assert int(column.get("width", 0)) < module._NAME_WIDTH


@few
@given(st.text(max_size=60), st.text(max_size=20))
def test_names_and_titles_of_any_text_add_nothing_but_text_to_the_picture(name: str, title: str) -> None:
    svg = heat_map(title, [("Mon", "2")], [Row(name, [(Tile("free", "1"), Tile("closed", "–"))])])
    tags = [element.tag.removeprefix(SVG) for element in ElementTree.fromstring(svg).iter()]
    plain = [
        element.tag.removeprefix(SVG)
        for element in drawn(Row("", [(Tile("free", "1"), Tile("closed", "–"))]), days=1).iter()
    ]
    assert set(tags) == set(plain)
    assert len(tags) - len(plain) == len(re.findall(r'<text y="\d+">', svg)) <= 2


def test_a_picture_in_markdown_is_one_line_without_markup() -> None:
    line = image("<svg>(ü)\n</svg>", "What it shows")
    assert re.fullmatch(r"!\[What it shows\]\(data:image/svg\+xml;base64,[A-Za-z0-9+/]+=*\)", line)
