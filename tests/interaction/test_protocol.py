"""Connections that live on: each of their requests has its own bound."""

import asyncio

from gateway.protocol import MAX_HEAD_BYTES
from tests.support.client import PATIENCE_S, Client


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
        large = head(MAX_HEAD_BYTES + 2000)
        await send(large[:1000], large[1000:-2])
        assert await answer(reader) == 431
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
