"""Text from outside: without halves of characters, and without characters that steer a terminal.

Callers, upstreams and clients choose it. Pure. Not here: the pictures that the command line shows in place of control
characters (gateway/client/model/text.py).
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

_DEPTH: Final = 16


def is_whole(text: str) -> bool:
    """Return whether a text has a form in UTF-8: no half of a surrogate pair stands in it alone."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def whole(text: str) -> str:
    """Join the halves of surrogate pairs in a text; replace lone ones by U+FFFD."""
    return text if is_whole(text) else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def escaped(text: str) -> str:
    r"""Write a text with an escape, as in `\x1b`, for each character that is not printable.

    These are control, format, private and unassigned characters, halves of surrogate pairs, and separators but the
    space: they could move a cursor, turn the direction of a line, or begin a line of their own.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def escaped_lines(text: str) -> str:
    """Write a text of several lines, each escaped; those after the first are indented, so that none looks like ours."""
    return "\n  ".join(escaped(line.expandtabs(4)) for line in text.split("\n"))


def each_text(value: Any, change: Callable[[str], str], depth: int = _DEPTH) -> Any:
    """Return a value with each of its texts changed, names included; a strange or deep one as the text that it shows.

    Numbers that JSON has no word for become texts, too.
    """
    if isinstance(value, str):
        return change(value)
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if depth and isinstance(value, Mapping):
        return {change(str(name)): each_text(item, change, depth - 1) for name, item in value.items()}
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [each_text(item, change, depth - 1) for item in value]
    return change(repr(value))
