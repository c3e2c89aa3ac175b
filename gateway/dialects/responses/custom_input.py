"""Decode the input of a custom tool from a function's arguments while they arrive. Pure.

An upstream that knows functions only is given a custom tool as a function of one text, `input`; its call then has
`{"input": "…"}`. Not here: how a custom tool is declared upstream (tool_offer.py).
"""

import json
import re
from enum import Enum, auto

_HEAD = re.compile(r'[ \t\r\n]*\{[ \t\r\n]*"input"[ \t\r\n]*:[ \t\r\n]*"')
_SPACE = " \t\r\n"
_HEAD_CHARS = 256
"""An input that has not begun by then is read at the end, so that long arguments are not matched again and again."""
_PLAIN = re.compile(r'[^"\\]+')
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_HEX_DIGITS = re.compile(r"[0-9a-fA-F]{4}")
_HIGH, _LOW, _AFTER_LOW = 0xD800, 0xDC00, 0xE000
_UNKNOWN = "\ufffd"


class _ReadState(Enum):
    HEAD = auto()
    """The text's beginning is still to be found."""
    WHOLE = auto()
    """The text does not come first: the arguments are read when they are complete."""
    INSIDE = auto()
    """Inside the text of `input`."""
    AFTER = auto()
    """Behind that text: nothing more is part of it."""
    RAW = auto()
    """The arguments are not a JSON object: all of them are the input."""


class CustomInput:
    """Decode the input of one call. The pieces that `feed` and `end` return add up to it.

    Arguments that are not JSON with a text `input` are the input themselves. Half a character is never returned.
    """

    def __init__(self) -> None:
        self._state = _ReadState.HEAD
        self._waiting = ""
        """The unread end of the arguments so far: a part of the head, or of an escape."""
        self._pieces: list[str] = []
        """The arguments, if they are read when they are complete."""
        self._high = ""
        """A first half of a character, until its second half arrives."""

    def feed(self, arguments: str) -> str:
        """Return the input that this piece of the arguments adds."""
        match self._state:
            case _ReadState.RAW:
                return arguments
            case _ReadState.HEAD:
                return self._read_head(self._waiting + arguments)
            case _ReadState.INSIDE:
                return self._read_inside(self._waiting + arguments)
            case _ReadState.WHOLE:
                self._pieces.append(arguments)
                return ""
            case _:
                return ""

    def end(self) -> str:
        """Return the rest of the input once the arguments are complete, or were cut off."""
        rest = ""
        if self._state in (_ReadState.HEAD, _ReadState.WHOLE):
            rest = _input_of("".join([*self._pieces, self._waiting]))
        return rest + self._lone_half()

    def _read_head(self, given: str) -> str:
        if head := _HEAD.match(given):
            self._state = _ReadState.INSIDE
            return self._read_inside(given[head.end() :])
        if (begun := given.lstrip(_SPACE)) and not begun.startswith("{"):
            self._state = _ReadState.RAW
            return given
        if len(given) > _HEAD_CHARS:
            self._state = _ReadState.WHOLE
            self._pieces.append(given)
            given = ""
        self._waiting = given
        return ""

    def _read_inside(self, given: str) -> str:
        pieces, at = [], 0
        self._waiting = ""
        while at < len(given):
            if plain := _PLAIN.match(given, at):
                pieces += [self._lone_half(), plain[0]]
                at = plain.end()
            elif given[at] == '"':
                self._state = _ReadState.AFTER
                break
            elif (escaped := self._unescape(given, at)) is None:
                self._waiting = given[at:]
                break
            else:
                text, at = escaped
                pieces.append(text)
        return "".join(pieces)

    def _unescape(self, given: str, at: int) -> tuple[str, int] | None:
        """Return the text of the escape that begins `at`, and its end; None until all of it has arrived."""
        letter = given[at + 1 : at + 2]
        if letter != "u":
            return (self._lone_half() + _ESCAPES.get(letter, letter), at + 2) if letter else None
        digits = given[at + 2 : at + 6]
        if not _HEX_DIGITS.fullmatch(digits):
            return None if len(digits) < 4 else (self._lone_half() + "u", at + 2)
        return self._character(int(digits, 16)), at + 6

    def _character(self, code: int) -> str:
        if _LOW <= code < _AFTER_LOW and self._high:
            high, self._high = self._high, ""
            return (high + chr(code)).encode("utf-16", "surrogatepass").decode("utf-16")
        lone = self._lone_half()
        if _HIGH <= code < _LOW:
            self._high = chr(code)
            return lone
        return lone + (_UNKNOWN if _LOW <= code < _AFTER_LOW else chr(code))

    def _lone_half(self) -> str:
        lone, self._high = (_UNKNOWN if self._high else ""), ""
        return lone


def _input_of(arguments: str) -> str:
    """Return the input in arguments that began in another way."""
    try:
        found = json.loads(arguments, strict=False)
    except (ValueError, RecursionError):
        return arguments
    text = found.get("input") if isinstance(found, dict) else None
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if isinstance(text, str) else arguments
