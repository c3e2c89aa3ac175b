"""Test answers to HTTP/1.0: without chunks, and with a reset if they are cut off. Written as uvicorn writes."""

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.http.old_http import UnchunkedTransport

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n"


class Wire(asyncio.Transport):
    """A transport that records."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__({"socket": connection})
        self.sent = b""
        self.ended = ""

    def write(self, data: Any) -> None:
        self.sent += data

    def close(self) -> None:
        self.ended = "closed"

    def abort(self) -> None:
        self.ended = "reset"

    def is_closing(self) -> bool:
        return bool(self.ended)


@pytest.fixture
def wire() -> Iterator[Wire]:
    with socket.socket() as connection:
        yield Wire(connection)


def test_a_chunked_answer_is_sent_without_its_chunks(wire: Wire) -> None:
    transport = UnchunkedTransport(wire)

    for data in (HEAD, b"5\r\nHello\r\n", b"7\r\n, world\r\n", b"0\r\n\r\n"):
        transport.write(data)
    transport.close()

    assert wire.sent == b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\nHello, world"
    assert wire.ended == "closed"


def test_an_answer_with_a_length_is_sent_as_it_is(wire: Wire) -> None:
    transport = UnchunkedTransport(wire)

    for data in (b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n", b"5\r\nHel\r\n"):
        transport.write(data)
    transport.close()

    assert wire.sent.endswith(b"\r\n\r\n5\r\nHel\r\n")
    assert wire.ended == "closed"


@pytest.mark.parametrize("chunks", [[], [b"5\r\nHello\r\n"]], ids=["after the head", "after a chunk"])
def test_a_chunked_answer_that_is_cut_off_ends_in_a_reset(wire: Wire, chunks: list[bytes]) -> None:
    transport = UnchunkedTransport(wire)

    for data in (HEAD, *chunks):
        transport.write(data)
    transport.close()

    assert wire.ended == "reset"
    linger = wire.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
    assert linger == b"\x01\x00\x00\x00\x00\x00\x00\x00"


def test_everything_else_is_the_transports_own(wire: Wire) -> None:
    assert UnchunkedTransport(wire).is_closing() is False
