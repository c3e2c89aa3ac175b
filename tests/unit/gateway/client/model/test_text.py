"""Test the text that reaches a terminal: whole characters, and the number of rows they take."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.client.model.text import one_line, rows, safe

ANY_TEXT = st.text(st.characters(exclude_categories=[]))


@given(ANY_TEXT)
def test_no_control_character_passes(text: str) -> None:
    left = {char for char in safe(text) if unicodedata.category(char) in ("Cc", "Cs")}

    assert left <= {"\n", "\t"}


@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Cf", "Zl", "Zp"])))
def test_every_other_character_does(text: str) -> None:
    assert safe(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2Jgone", "␛[2Jgone"),
        ("\x1b]0;title\x07", "␛]0;title␇"),
        ("\x9b31m", "\ufffd31m"),
        ("a\rb\r\nc", "ab\nc"),
        ("a\x08\x7f", "a␈␡"),
        ("a\u2028b\x85c", "a\nb\nc"),
        ("\u202eabc\u2066", "\ufffdabc\ufffd"),
        ("\t👩\u200d🚀\n", "\t👩\u200d🚀\n"),
        ("\ud83c", "\ufffd"),
    ],
)
def test_it_is_shown_like_this(text: str, shown: str) -> None:
    assert safe(text) == shown


@pytest.mark.parametrize("mark", ["\u061c", "\u200e", "\u200f"])
def test_a_mark_of_direction_is_left_out(mark: str) -> None:
    assert safe(f"a{mark}b") == "ab"


def test_one_line_stays_one() -> None:
    assert one_line(" a\n\x1b b\r\n\tc ") == "a ␛ b c"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 1),
        ("abc", 1),
        ("a" * 10, 1),  # full, and the cursor waits at its end
        ("a" * 11, 2),
        ("a" * 10 + "\n", 2),
        ("\n\n", 3),
        ("\tab", 1),
        ("\tabc", 2),
        ("東京東京東", 1),
        ("a東京東京東", 2),  # the last column stays empty
        ("\t\t\t", 1),  # a tab never leaves its row
    ],
)
def test_rows_of_a_terminal_of_ten_columns(text: str, count: int) -> None:
    assert rows(text, 10) == (count, count)


@pytest.mark.parametrize("text", ["🌊" * 6, "e\u0301" * 6, "…" * 6])
def test_the_number_of_rows_is_a_range_if_terminals_differ(text: str) -> None:
    fewest, most = rows(text, 10)

    assert fewest < most


@given(st.text(st.characters(codec="ascii", exclude_characters="\t")), st.integers(1, 20))
def test_rows_of_plain_text_are_its_wrapped_lines(text: str, columns: int) -> None:
    lines = safe(text).split("\n")
    wrapped = sum(max(1, -(-len(line) // columns)) for line in lines)

    assert rows(safe(text), columns)[0] == wrapped
