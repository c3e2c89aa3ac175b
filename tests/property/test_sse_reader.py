"""Test the event reader against a literal reading of WHATWG HTML §9.2.6, for any stream and any way to cut it."""

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.model.errors import EventTooLarge
from shared.model.sse_parser import EventReader, SentEvent

MUCH = 1 << 20
TOKENS = [
    *(b"\n", b"\r", b"\r\n", b"\n\n", b"\0", b" ", b":", b"x", b"\xef\xbb\xbf", b"\xff", b"\xc3", b"\xa9", b"\xe2\x82"),
    *(b"data", b"data:", b"data: ", b"event", b"event: ping", b"id", b"id: 1-2", b"retry: 10", b"retry: 1x", b": hb"),
    *(b"data: {}\n\n", b"event: delta\r\ndata: 1\r\rid\n", "é€😀".encode()),
]
STREAMS = st.lists(st.sampled_from(TOKENS) | st.binary(max_size=3), max_size=40).map(b"".join)
CUTS = st.lists(st.integers(0, 200), max_size=12)


class Reference:
    """Follow the standard's steps, over a stream that is there from its beginning."""

    def __init__(self, stream: bytes) -> None:
        self.events: list[tuple[str, str, str | None]] = []
        self.retry_ms: int | None = None
        self._data: str = ""
        self._name: str = ""
        self._id: str | None = None
        text = stream.decode("utf-8", errors="replace")
        self._read(text.removeprefix("\ufeff"))

    def _read(self, text: str) -> None:
        line = ""
        position = 0
        while position < len(text):
            character = text[position]
            position += 1
            if character == "\r" and text[position : position + 1] == "\n":
                position += 1
            if character in "\r\n":
                self._process(line)
                line = ""
            else:
                line += character

    def _process(self, line: str) -> None:
        if line == "":
            self._dispatch()
        elif line[0] == ":":
            pass
        elif ":" in line:
            field, value = line.split(":", 1)
            self._field(field, value[1:] if value[:1] == " " else value)
        else:
            self._field(line, "")

    def _field(self, field: str, value: str) -> None:
        if field == "event":
            self._name = value
        elif field == "data":
            self._data += value + "\n"
        elif field == "id" and "\0" not in value:
            self._id = value
        elif field == "retry" and value != "" and all(digit in "0123456789" for digit in value) and len(value) < 10:
            self.retry_ms = int(value)

    def _dispatch(self) -> None:
        if self._data != "":
            self.events.append((self._name or "message", self._data[:-1], self._id))
        self._data, self._name, self._id = "", "", None


def size_that_must_fit(stream: bytes) -> int:
    """Return the most bytes that an event so far, or a line within it, needs: field by field, byte by byte."""
    most = kept = 0
    for line in stream.splitlines(keepends=True):
        bare = line.rstrip(b"\r\n")
        most = max(most, kept + len(bare))
        if bare.partition(b":")[0] in (b"data", b"event") or (bare.startswith(b"id") and is_id(bare)):
            kept += len(bare)
        if not bare:
            kept = 0
    return most


def is_id(line: bytes) -> bool:
    field, _, value = line.partition(b":")
    return field == b"id" and b"\0" not in value


def pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted(min(cut, len(stream)) for cut in cuts)
    return [stream[start:stop] for start, stop in zip([0, *at], [*at, len(stream)], strict=True)]


def shown(events: list[SentEvent]) -> list[tuple[str, str, str | None]]:
    return [(event.name, event.text, event.id) for event in events]


@given(STREAMS, CUTS)
@settings(max_examples=500)
def test_each_event_comes_as_soon_as_the_standard_dispatches_it(stream: bytes, cuts: list[int]) -> None:
    reader = EventReader(MUCH)
    events: list[SentEvent] = []
    so_far = b""

    for piece in pieces(stream, cuts):
        events += reader.feed(piece)
        so_far += piece
        expected = Reference(so_far)
        assert (shown(events), reader.retry_ms) == (expected.events, expected.retry_ms)


@given(STREAMS, CUTS, st.integers(0, 40))
@settings(max_examples=500)
def test_an_event_is_too_large_by_its_bytes_and_not_by_their_cuts(stream: bytes, cuts: list[int], most: int) -> None:
    reader = EventReader(most)
    expected = Reference(stream).events
    events: list[SentEvent] = []
    too_large = False
    try:
        for piece in pieces(stream, cuts):
            events += reader.feed(piece)
    except EventTooLarge:
        too_large = True

    marked = 3 if stream.startswith(b"\xef\xbb\xbf") else 0
    if not marked:
        assert too_large == (size_that_must_fit(stream) > most)
    assert shown(events) == expected[: len(events)]
    assert too_large or len(events) == len(expected)


@given(STREAMS)
def test_byte_by_byte_is_like_at_once(stream: bytes) -> None:
    reader, other = EventReader(MUCH), EventReader(MUCH)

    assert [event for byte in stream for event in reader.feed(bytes([byte]))] == other.feed(stream)
