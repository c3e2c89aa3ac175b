"""Answers from the pieces of their bodies: a chat's as chunks, others as one document.

Events that hold nothing of the answer are passed over: heartbeats, and events of unknown names. An error in any shape
ends an answer. Pure. Not here: sockets, and the sentences of errors.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final

from shared.model.sse_parser import SentEvent
from worker.upstream.wire.answer_body import AnswerBody, NotUnderstood
from worker.upstream.wire.chunk import Chunk
from worker.upstream.wire.chunk_reader import ChunkReader
from worker.upstream.wire.refusals import Refused, refusal_in, refusal_of
from worker.upstream.wire.upstream_json import decode_json

_DONE: Final = "[DONE]"
# The name of an event that has none of its own, and the name of an event that is always an error.
_CHUNK, _ERROR = "message", "error"


class ChatAnswer:
    """Read one answer to a chat request, in parts of at most `most` bytes each."""

    def __init__(self, reader: ChunkReader, most: int) -> None:
        self.done = False
        """Whether the upstream has said that the answer is over."""
        self._reader = reader
        self._body = AnswerBody(most)
        self._last: object = None

    def feed(self, piece: bytes) -> Iterator[Chunk]:
        """Yield the chunks that this piece completes, also those before an error.

        Raises:
            Refused: an error came.
            NotUnderstood, WebPage, EventTooLarge, ProviderGarbage: something came that is not the protocol.
        """
        return self._chunks(self._body.feed(piece))

    def end(self) -> Iterator[Chunk]:
        """Yield the rest, once the body has ended or the answer is over. Raises as `feed` does."""
        if not self.done:
            yield from self._chunks(self._body.end())
        yield from self._reader.end()
        is_strange = self._last is not None and not _is_chunk(self._last)
        if not self._reader.understood and (is_strange or self._body.is_foreign):
            raise NotUnderstood("sent an answer that is not a chat completion", self._body.beginning)

    def _chunks(self, parts: Iterable[SentEvent]) -> Iterator[Chunk]:
        for name, data, _ in parts:
            text = data.decode("utf-8", "replace").strip()
            if text == _DONE:
                self.done = True
                return
            if (value := _value(name, text)) is not None:
                self._last = value
                yield self._reader.read(value)


class DocumentAnswer:
    """Read one answer that is a single document of JSON, of at most `most` bytes."""

    def __init__(self, most: int) -> None:
        self._body = AnswerBody(most)
        self._value: object = None

    def feed(self, piece: bytes) -> None:
        """Take a piece.

        Raises:
            Refused: the answer is an error.
            NotUnderstood, WebPage, EventTooLarge: it is not JSON, or too long.
        """
        self._read(self._body.feed(piece))

    def end(self) -> object:
        """Return the document. Raises as `feed` does."""
        self._read(self._body.end())
        if self._value is None:
            raise NotUnderstood("sent something that is not JSON", self._body.beginning)
        return self._value

    def _read(self, parts: Iterable[SentEvent]) -> None:
        for part in parts:
            if self._value is None:
                self._value = _value(part.name, part.text.strip())


def _value(name: str, text: str) -> object:
    """Decode one part; None if it is to be passed over.

    Raises:
        Refused: it is an error.
        NotUnderstood: it is not JSON.
    """
    if not text:
        return None
    if name != _CHUNK:
        return _named(name, text)
    try:
        value = decode_json(text)
    except ValueError as error:
        raise NotUnderstood("sent something that is not JSON", text) from error
    if refusal := refusal_in(value):
        raise Refused(refusal)
    return value


def _named(name: str, text: str) -> object:
    """Decode the data of an event that has a name: an error, a chunk under another name, or none of the answer's."""
    value: object = text
    with suppress(ValueError):
        value = decode_json(text)
    if name == _ERROR:
        raise Refused(refusal_in(value) or refusal_of(value))
    if not _is_chunk(value) and not (isinstance(value, dict) and value.get("error")):
        return None
    if refusal := refusal_in(value):
        raise Refused(refusal)
    return value


def _is_chunk(value: object) -> bool:
    return isinstance(value, dict) and ("choices" in value or "usage" in value)
