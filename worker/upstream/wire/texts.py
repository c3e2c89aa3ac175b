"""Texts of an upstream's answer: pieces with whole characters, and content lists as spans of text.

Pure. Not here: which field of a delta a text came from.
"""

from collections.abc import Iterator
from typing import Any, Final, Literal, NamedTuple

from shared.model.text import is_whole, whole

TextField = Literal["content", "reasoning_content", "refusal"]

_REPLACEMENT: Final = "�"
_TEXT_TYPES = frozenset({"text", "output_text", "input_text"})
_THINKING_TYPES = frozenset({"thinking", "reasoning", "reasoning_text", "summary_text"})
# The names under which a part holds its text, the likeliest first.
_TEXT_NAMES = ("text", "thinking", "reasoning", "content", "summary")


class TextReader:
    """The pieces of one text, each of whole characters.

    A model's token may end in half of a surrogate pair (RFC 8259 §8.2). A text with a lone half can be neither encoded
    nor stored by most clients, so the half waits for the next piece.
    """

    __slots__ = ("_half",)

    def __init__(self) -> None:
        self._half = ""

    @property
    def waits(self) -> bool:
        """Return whether half a character waits for its other half."""
        return bool(self._half)

    def read(self, piece: str) -> str:
        """Return the whole characters of this piece and of the half before it."""
        if not self._half and is_whole(piece):
            return piece
        text, self._half = self._half + piece, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        return whole(text)

    def end(self) -> str:
        """Return the replacement character if half a character is left."""
        half, self._half = self._half, ""
        return _REPLACEMENT if half else ""


class Span(NamedTuple):
    """A run of text of one field."""

    field: TextField
    text: str


def read_spans(value: object, field: TextField) -> Iterator[Span | Any]:
    """Read a text, a content part or a list of them, in order.

    Yields spans. A part that holds no text is yielded as it came.
    """
    for part in value if isinstance(value, list) else (value,):
        match part:
            case str():
                yield Span(field, part)
            case {"type": "refusal", "refusal": str(text)}:
                yield Span("refusal", text)
            case {"type": str(kind), **fields} if kind in _THINKING_TYPES:
                yield from _nested(part, fields, "reasoning_content")
            case {"type": str(kind), **fields} if kind in _TEXT_TYPES:
                yield from _nested(part, fields, field)
            case {"text": str(text), **fields} if "type" not in fields:
                yield Span(field, text)
            case _:
                yield part


def _nested(part: object, fields: dict[Any, Any], field: TextField) -> Iterator[Span | Any]:
    """Read the text of a part: a text, or a list of texts one level deeper (Mistral's `thinking`)."""
    value = next((fields[name] for name in _TEXT_NAMES if fields.get(name)), "")
    if isinstance(value, str):
        yield Span(field, value)
        return
    texts = [_text_of(each) for each in value] if isinstance(value, list) else [None]
    known = [text for text in texts if text is not None]
    yield Span(field, "".join(known)) if len(known) == len(texts) else part


def _text_of(part: object) -> str | None:
    match part:
        case str(text) | {"text": str(text)}:
            return text
        case _:
            return None
