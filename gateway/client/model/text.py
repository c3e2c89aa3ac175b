"""Make a text safe for a terminal, and measure the room that it takes there. Pure.

A model may write anything, escape sequences included. None of them may reach a terminal: they could move the cursor,
change the title or paste into the shell. A pipe gets a text as it is.
"""

import unicodedata

_LOST = "\ufffd"
_ESCAPED = (
    *range(0x20),
    *range(0x7F, 0xA0),
    # These change the direction of everything after them.
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
    # Halves of characters.
    *range(0xD800, 0xE000),
)
# Marks of direction, which take no room: a text reads as well without them on a terminal.
_MARKS = (0x061C, 0x200E, 0x200F)
_SAFE = {
    **dict.fromkeys(_ESCAPED, _LOST),
    **{code: chr(0x2400 + code) for code in range(0x20)},  # their pictures, as in ␛
    0x7F: "\u2421",
    **dict.fromkeys(_MARKS),
    ord("\r"): None,
    **{ord(kept): kept for kept in "\n\t"},
    **{ord(line_end): "\n" for line_end in "\x85\u2028\u2029"},
}

_TAB = 8
# East Asian Width (UAX #11), and the columns that a terminal takes for such a character, at least and at most.
_WIDTHS = {"W": (2, 2), "F": (2, 2), "A": (1, 2)}
_WITHOUT_WIDTH = ("Mn", "Me", "Cf")
_EMOJI = range(0x1F000, 0x20000)


def safe(text: str) -> str:
    """Replace control characters, but for line ends and tabs, by pictures of them."""
    return text.translate(_SAFE)


def one_line(text: str) -> str:
    """Make a foreign text fit one line of ours: safe, without line ends."""
    return " ".join(safe(text).split())


def rows(text: str, columns: int) -> tuple[int, int]:
    """Count the rows of a terminal that a safe text takes, at least and at most: terminals differ in widths.

    The text begins in the first column of the first row. The cursor's row counts, even if it is empty.
    """
    fewest, most = _Row(columns), _Row(columns)
    for char in text:
        if char == "\n":
            fewest.end()
            most.end()
        elif char == "\t":
            fewest.tab()
            most.tab()
        else:
            least, greatest = _width(char)
            fewest.put(least)
            most.put(greatest)
    return fewest.number, most.number


class _Row:
    """Track the cursor. A row that is just full is not left before the next character arrives."""

    def __init__(self, columns: int) -> None:
        self.number = 1
        self._columns = columns
        self._used = 0

    def put(self, width: int) -> None:
        if self._used + width > self._columns:
            self.end()
        self._used += width

    def tab(self) -> None:
        self._used = min(self._columns - 1, (self._used // _TAB + 1) * _TAB)

    def end(self) -> None:
        self.number += 1
        self._used = 0


def _width(char: str) -> tuple[int, int]:
    if char.isascii():
        return 1, 1
    if unicodedata.category(char) in _WITHOUT_WIDTH:
        return 0, 1
    if ord(char) in _EMOJI:
        return 0, 2  # several of them may be drawn as one
    return _WIDTHS.get(unicodedata.east_asian_width(char), (1, 1))
