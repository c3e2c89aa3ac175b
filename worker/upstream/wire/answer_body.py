"""A reader of bodies of any media type: an event stream, lines of JSON, or one JSON document.

The first byte that is not white space decides: upstreams send event streams as `application/json`, and JSON as
`text/plain`. Pure. Not here: the meaning of a part.
"""

import re
from typing import Final

from shared.model.errors import EventTooLarge
from shared.model.sse_parser import EventReader, SentEvent
from worker.upstream.wire.upstream_json import decode_json

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_SPACE: Final = b" \t\r\n"
# So much of the beginning is kept, for a sentence.
_BEGINNING_BYTES: Final = 200
_FIELD: Final = re.compile(rb"(?:data|event|id|retry)?:")


class WebPage(Exception):
    """The body is HTML or XML."""


class NotUnderstood(Exception):
    """The answer, or a part of it, is not the protocol: `trouble` continues "The provider …", `text` shows it."""

    def __init__(self, trouble: str, text: str) -> None:
        super().__init__(trouble)
        self.trouble = trouble
        self.text = text


class AnswerBody:
    """Read one body of any length, in parts of at most `most` bytes each.

    Parts are events. Those of JSON are called `message`: each line of lines of JSON is one, and so is a document.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._events: EventReader | None = None
        self._json: JsonLines | None = None
        self._head = b""
        self._at_start = True
        self._beginning = b""

    @property
    def beginning(self) -> str:
        """Return the beginning of the body, without white space before it."""
        return self._beginning.decode(errors="replace")

    @property
    def is_foreign(self) -> bool:
        """Return whether the body holds something, and begins like none of the forms."""
        is_known = self._json is not None or _FIELD.match(self._beginning) is not None
        return bool(self._beginning) and not is_known

    def feed(self, piece: bytes) -> list[SentEvent]:
        """Return the parts that this piece completes.

        Raises:
            EventTooLarge: a part is over the bound.
            WebPage: the body is one.
        """
        if self._events is not None and len(self._beginning) >= _BEGINNING_BYTES:
            return self._events.feed(piece)
        return self._feed_beginning(piece)

    def end(self) -> list[SentEvent]:
        """Return the part that the end of the body completes. An event that the end cuts off is dropped."""
        return self._json.end() if self._json is not None else []

    def _feed_beginning(self, piece: bytes) -> list[SentEvent]:
        if self._events is None and self._json is None:
            piece = self._decide(piece)
        self._beginning += piece[: _BEGINNING_BYTES - len(self._beginning)]
        if self._events is not None:
            return self._events.feed(piece)
        return self._json.feed(piece) if self._json is not None else []

    def _decide(self, piece: bytes) -> bytes:
        """Return the piece from its first byte that counts, once that is there."""
        piece = self._head + piece
        if self._at_start:
            if len(piece) < len(_BYTE_ORDER_MARK) and _BYTE_ORDER_MARK.startswith(piece):
                self._head = piece
                return b""
            self._head, self._at_start = b"", False
            piece = piece.removeprefix(_BYTE_ORDER_MARK)
        # Some upstreams send white space until they have data.
        piece = piece.lstrip(_SPACE)
        if piece.startswith(b"<"):
            raise WebPage
        if piece.startswith((b"{", b"[")):
            self._json = JsonLines(self._most)
        elif piece:
            self._events = EventReader(self._most)
        return piece


class JsonLines:
    """Read JSON that is one document over any number of lines, or one document a line."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._buffer = bytearray()
        self._is_lines: bool | None = None
        """Whether each line is a document; None until the first line is there."""

    def feed(self, piece: bytes) -> list[SentEvent]:
        """Return the lines that this piece completes, as soon as the first one is found to be JSON by itself.

        Raises:
            EventTooLarge: a line, or the document, is over the bound.
        """
        parts: list[SentEvent] = []
        start = len(self._buffer)
        self._buffer += piece
        while self._is_lines is not False and (end := self._buffer.find(b"\n", start)) >= 0:
            line = bytes(self._buffer[:end]).strip(_SPACE)
            if self._is_lines is None:
                self._is_lines = _is_json(line)
                continue
            parts += _parts(line, self._most)
            del self._buffer[: end + 1]
            start = 0
        if len(self._buffer) > self._most:
            raise EventTooLarge(f"A document of over {self._most} bytes came.")
        return parts

    def end(self) -> list[SentEvent]:
        """Return the document, or the last line."""
        return _parts(bytes(self._buffer).strip(_SPACE), self._most)


def _parts(text: bytes, most: int) -> list[SentEvent]:
    if len(text) > most:
        raise EventTooLarge(f"A line of over {most} bytes came.")
    return [SentEvent("message", text, None)] if text else []


def _is_json(line: bytes) -> bool:
    try:
        decode_json(line.decode(errors="replace"))
    except ValueError:
        return False
    return True


def read_error_body(content: bytes, most: int) -> object:
    """Read the body of an error: its JSON, that of its first event, or else its text."""
    body = AnswerBody(most)
    try:
        parts = [*body.feed(content), *body.end()]
        return decode_json(parts[0].text) if parts else content.decode(errors="replace")
    except WebPage:
        return ""
    except ValueError:
        return content.decode(errors="replace")
