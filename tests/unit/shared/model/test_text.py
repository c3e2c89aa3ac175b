"""Test text from outside: it is whole, and can't steer a terminal."""

import pytest

from shared.model.text import each_text, escaped, escaped_lines, is_whole, whole

HIGH, LOW = "\ud83d", "\ude00"
STEERING = ("\x1b[2J", "\x9b2J", "\x07", "\r", "\n", "\x7f", "\u202e", "\u2066", "\u200f", "\u061c", "\u2028", "\ud800")


@pytest.mark.parametrize(
    ("text", "mended"),
    [("plain", "plain"), ("é🌊", "é🌊"), (HIGH + LOW, "😀"), (f"a{LOW}b", "a\ufffdb"), (HIGH, "\ufffd")],
)
def test_halves_are_joined_or_replaced(text: str, mended: str) -> None:
    assert whole(text) == mended
    assert is_whole(mended)
    assert is_whole(text) is (text == mended)


@pytest.mark.parametrize("char", STEERING, ids=ascii)
def test_a_character_that_steers_is_escaped(char: str) -> None:
    assert escaped(f"a{char}b").isprintable()
    assert escaped(f"a{char}b").startswith("a\\")


def test_a_text_that_can_be_printed_stays_as_it_is() -> None:
    assert escaped("é 東京 🌊 \\x1b") == "é 東京 🌊 \\x1b"


def test_later_lines_are_indented() -> None:
    assert escaped_lines("a\n\tb\x1b\nc") == "a\n      b\\x1b\n  c"


class Strange:
    """Shows itself as it likes."""

    def __repr__(self) -> str:
        return "strange \x1b"


def test_each_text_of_a_value_is_changed() -> None:
    value = {"k\x1b": ["\x1b", ("\x1b", 1), {2: None}], 3: Strange(), "n": float("nan"), "f": 1.5, "t": True}

    assert each_text(value, escaped) == {
        "k\\x1b": ["\\x1b", ["\\x1b", 1], {"2": None}],
        "3": "strange \\x1b",
        "n": "nan",
        "f": 1.5,
        "t": True,
    }


def test_a_deep_value_is_shown_as_a_text() -> None:
    assert each_text([["\x1b"]], escaped, 1) == ["['\\x1b']"]
