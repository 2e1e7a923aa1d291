"""A text from outside is only text: in a cell, a list item or a paragraph, and whether it is markdown there or not."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from prefect_calendly.client.errors import printable
from prefect_calendly.runs.markdown import escape, markdown_table

RENDERER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
# GFM makes links of these without any markup, also where they were written with entities or escapes.
BARE_LINK = re.compile(r"(?:https?|ftp)://|www\.|[\w.+-]+@[\w-]+\.", re.IGNORECASE | re.ASCII)
INVISIBLE = re.compile("[\u200b\u2068\u2069]")
SEEN_AS = str.maketrans("\u2217\u02cb\u223c\u2223", "*`~|")

MARKUP = [
    *"\\`*_{}[]()<>#+-.!|~&@:/;'\"=^ ax1é",
    *("![x](//h/p.png)", "[x](//h)", "[x]: //h", "[x] ", "[^1]", "<img src=//h>", "<http://h.i>", "</b>", "<!--", "<?"),
    *("http://h.i", "FTP://h.i", "www.", "a@b.cd", "&period;", "&commat;", "&colon;", "&#x3a;", "&lt;", "&rlm;"),
    *(
        "*a*",
        "**a**",
        "_a_",
        "__a__",
        "~~a~~",
        "`a`",
        "***",
        "___",
        "~~",
        "```",
        "    ",
        "\n\n",
        "1. ",
        "1) ",
        "- ",
        "> ",
        "# ",
        "---",
        "| --- |",
    ),
    *("\u200b", "\u200f", "\u202e", "\u2067", "\u05d0", "\u0661", "\ufeff", "\u00ad", "\u3000", "\u2028"),
]
TEXTS = st.lists(st.sampled_from(MARKUP) | st.characters(), max_size=12).map("".join).filter(printable)
# Where a text may stand in a page, and what is then the last text that is rendered.
PLACES = {
    "{}": "{}",
    "- {}": "{}",
    "1. {}: b": "{}: b",
    "| a |\n| --- |\n| {} |": "{}",
}


def rendered(markdown: str) -> tuple[list[str], str]:
    """What kinds of things a page holds, and its last text."""
    blocks = RENDERER.parse(markdown)
    parts = [part for block in blocks for part in block.children or ()]
    return [each.type for each in (*blocks, *parts)], parts[-1].content if parts else ""


KINDS = {place: rendered(place.format("a"))[0] for place in PLACES}


def assert_is_text(text: str, longest_word: int | None = None) -> None:
    escaped = escape(text, longest_word)
    for place, shown in PLACES.items():
        assert rendered(place.format(escaped)) == (KINDS[place], shown.format(escaped))
    assert INVISIBLE.sub("", escaped).translate(SEEN_AS) == printable(text).translate(SEEN_AS)
    assert not BARE_LINK.search(escaped)


@pytest.mark.parametrize("text", [text for text in MARKUP if printable(text)])
def test_markup_looks_as_it_was_written_and_is_none(text: str) -> None:
    assert_is_text(text)


@given(TEXTS, st.none() | st.integers(1, 12))
def test_whatever_a_text_holds_it_looks_as_it_was_written(text: str, longest_word: int | None) -> None:
    assert_is_text(text, longest_word)
    assert escape(escape(text)) == escape(text)


@pytest.mark.parametrize(
    ("text", "escaped"), [("a\u202eb\u200f&rlm;", "ab&\u200brlm;"), ("\u05d0\u05d1 2", "\u2068\u05d0\u05d1 2\u2069")]
)
def test_writing_in_the_other_direction_ends_where_the_text_ends(text: str, escaped: str) -> None:
    assert escape(text) == escaped


@pytest.mark.parametrize(
    "text",
    [
        "R&D",
        "snake_case",
        "j…@blocked.example",
        "2026-11-28 10:00",
        "-5 °C",
        "1.5 h",
        "Fri 4:00 (1)",
        "a/b",
        "50% + x!",
    ],
)
def test_what_marks_nothing_up_can_be_copied_and_searched_for(text: str) -> None:
    assert escape(text) == text


def test_long_words_may_break_in_the_cells_of_a_table() -> None:
    table = markdown_table(("A", "B"), [("b" * 9, "bb-bb bbbbb")], longest_word=4)
    assert table == "| A | B |\n| --- | --- |\n| bbbb\u200bbbbb\u200bb | bb-bb bbbb\u200bb |"
