"""Just enough of an HTTP/1.1 client: it knows whether a body ended properly, and gives up on a silent one.

tests/support/client.py keeps every byte for tests to look at; this one reads a million tokens.
"""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

SILENCE_S = 5.0
"""Streams have a heartbeat each second: who hears nothing for so long goes to another gateway."""

_LIMIT_BYTES = 256 * 1024
_SMALL_BYTES = 4096
NET_FAULTS = (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError)


class Response:
    """A response after its headers have arrived. `complete` says whether its body ended properly."""

    def __init__(
        self, status: int, headers: Mapping[str, str], reader: asyncio.StreamReader, transport: asyncio.ReadTransport
    ) -> None:
        self.status = status
        self.headers = headers
        self.complete = False
        self._reader = reader
        self._transport = transport

    async def chunk(self) -> bytes:
        """The next piece of a chunked body; empty at its proper end. Raises one of `NET_FAULTS` at any other."""
        async with asyncio.timeout(SILENCE_S):
            size = int(await self._reader.readuntil(b"\r\n"), 16)
            data = await self._reader.readexactly(size + 2)
        self.complete = not size
        return data[:-2]

    async def stall(self, seconds: float) -> None:
        """Take nothing for so long, not even into a buffer of ours."""
        self._transport.pause_reading()
        await asyncio.sleep(seconds)
        self._transport.resume_reading()

    async def whole(self) -> bytes:
        """Return a body with a length."""
        async with asyncio.timeout(SILENCE_S):
            return await self._reader.readexactly(int(self.headers.get("content-length", 0)))


@asynccontextmanager
async def request(
    port: int,
    method: str,
    path: str,
    *,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    small: bool = False,
) -> AsyncIterator[Response]:
    """Ask 127.0.0.1, with `small` so that hardly anything fits into the kernel's buffer. Raises one of `NET_FAULTS`."""
    async with asyncio.timeout(SILENCE_S):
        reader, writer = await asyncio.open_connection(sock=await _connected(port, small=small), limit=_LIMIT_BYTES)
    try:
        content = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", "host: faults.test", "authorization: Bearer sk-alice"]
        lines += [f"content-length: {len(content)}", *(f"{name}: {value}" for name, value in (headers or {}).items())]
        writer.write("\r\n".join([*lines, "", ""]).encode() + content)
        async with asyncio.timeout(4 * SILENCE_S):  # a chat completion's headers are held for its first token
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = (line.partition(":") for line in head[1:] if line)
        found = {n.lower(): v.strip() for n, _, v in fields}
        yield Response(int(head[0].split(" ")[1]), found, reader, cast(asyncio.Transport, writer.transport))
    finally:
        writer.transport.abort()


async def _connected(port: int, *, small: bool) -> socket.socket:
    opened = socket.socket()
    try:
        opened.setblocking(False)
        if small:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BYTES)
        await asyncio.get_running_loop().sock_connect(opened, ("127.0.0.1", port))
    except BaseException:
        opened.close()
        raise
    return opened
