"""Connections: how many there may be, what each may send in advance, and that each of its requests is bounded."""

import asyncio
from contextlib import suppress

import pytest

from gateway import protocol
from shared.bounds import HEAD_BYTES, PIPELINED
from tests.support.client import PATIENCE_S, Client
from tests.support.gateway import Gateway, until
from tests.support.scribe import Desk


def head(size: int) -> bytes:
    """A request of this many bytes, of many headers."""
    line = b"X: " + b"x" * 995 + b"\r\n"
    start = b"GET /health/live HTTP/1.1\r\nHost: tailrace.test\r\n"
    lines, rest = divmod(size - len(start) - len(b"Y: \r\n\r\n"), len(line))
    return start + line * lines + b"Y: " + b"y" * rest + b"\r\n\r\n"


async def answer(reader: asyncio.StreamReader) -> int:
    """Read one answer; its status."""
    lines = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
    (length,) = [int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:")]
    await reader.readexactly(length)
    return int(lines[0].split(b" ")[1])


async def test_each_request_of_a_connection_has_its_own_bound(client: Client) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)

    async def send(*pieces: bytes) -> None:
        """Each piece is read by itself: the gateway has answered somebody else in between."""
        for piece in pieces:
            writer.write(piece)
            assert (await client.get("/health/live")).status == 200

    async with asyncio.timeout(PATIENCE_S):
        for _ in range(5):
            normal = head(30 * 1024)
            await send(normal[:1000], normal[1000:-2], normal[-2:])
            assert await answer(reader) == 200
        large = head(HEAD_BYTES + 2000)
        await send(large[:1000], large[1000:-2])
        assert await answer(reader) == 431
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


async def test_one_connection_too_many_is_broken_off_and_room_is_room_again(
    gateway: Gateway, client: Client, writing: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "CONNECTIONS", 1)
    job_id = await writing.create()
    async with client.stream("GET", f"/v1/jobs/{job_id}/events") as response:
        await response.frame()
        with pytest.raises((EOFError, ConnectionError)):
            await client.get("/health/live")
        assert gateway.connections == 1
    await until(lambda: gateway.connections == 0)

    assert (await client.get("/health/live")).status == 200


async def test_requests_in_advance_are_answered_in_order_as_long_as_they_are_few(client: Client) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    async with asyncio.timeout(PATIENCE_S):
        writer.write(head(200) * (PIPELINED + 1))
        for _ in range(PIPELINED + 1):
            assert await answer(reader) == 200
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("leaves", [True, False], ids=["who leaves", "who sends too many"])
async def test_a_reader_who_sent_requests_in_advance_is_let_go(
    gateway: Gateway, client: Client, writing: Desk, *, leaves: bool
) -> None:
    job_id = await writing.create()
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    async with asyncio.timeout(PATIENCE_S):
        writer.write(head(200))
        writer.write(b"GET /v1/jobs/%s/events HTTP/1.1\r\n" % job_id.encode())
        writer.write(b"Host: tailrace.test\r\nAuthorization: Bearer sk-alice\r\n\r\n")
        assert await answer(reader) == 200
        await reader.readuntil(b"id: 0-1\n\n")
        writer.write(head(100) * (1 if leaves else PIPELINED + 1))
        assert (await client.get("/health/live")).status == 200  # by now they were read
        if not leaves:
            await broken_off(reader)
        writer.close()
    await until(lambda: gateway.connections == 0 and not gateway.services.hub.readers)


async def broken_off(reader: asyncio.StreamReader) -> None:
    """Read to the end, which may be a reset."""
    with suppress(ConnectionError):
        while await reader.read(1024):
            pass
