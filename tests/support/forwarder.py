"""A TCP forwarder: the address of a server that can move, and connections that can fall silent.

Not here: HTTP, or the meaning of the bytes.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


class Forwarder:
    """Carries connections to `target`; one that is open stays with the server it has."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.url = ""
        self._connections: set[_Connection] = set()

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection until a side ends it."""
        url = urlsplit(self.target)
        from_server, to_server = await asyncio.open_connection(url.hostname, url.port)
        connection = _Connection(to_server, writer)
        self._connections.add(connection)
        try:
            await asyncio.gather(
                connection.carry(reader, to_server, answers=False), connection.carry(from_server, writer, answers=True)
            )
        finally:
            self._connections.discard(connection)
            connection.close()

    def hold(self, word: bytes) -> None:
        """Keep back every answer on the connections that are open now, and on which this word was sent."""
        for connection in self._connections:
            if word in connection.first_words:
                connection.flowing.clear()

    def lose_next(self) -> None:
        """Lose the next answers of each open connection."""
        for connection in self._connections:
            connection.loses = True

    def repeat_last(self) -> None:
        """Carry the last answers of each open connection once more, before its next ones."""
        for connection in self._connections:
            connection.repeats = True

    def release(self) -> None:
        """Let all answers pass that were kept back."""
        for connection in self._connections:
            connection.flowing.set()

    def close(self) -> None:
        """End all connections."""
        for connection in self._connections:
            connection.close()


class _Connection:
    def __init__(self, *ends: asyncio.StreamWriter) -> None:
        self._ends = ends
        self.first_words = b""
        self.loses = self.repeats = False
        self._last_answers = b""
        self.flowing = asyncio.Event()
        self.flowing.set()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        try:
            while data := await reader.read(65_536):
                if answers:
                    await self.flowing.wait()
                    data = self._disturbed(data)
                else:
                    self.first_words = (self.first_words + data)[:1024]
                writer.write(data)
                await writer.drain()
        except OSError:
            pass  # the other direction sees it too
        self.close()

    def _disturbed(self, answers: bytes) -> bytes:
        carried = (self._last_answers if self.repeats else b"") + (b"" if self.loses else answers)
        self._last_answers = answers
        self.loses = self.repeats = False
        return carried

    def close(self) -> None:
        self.flowing.set()
        for end in self._ends:
            end.close()


@asynccontextmanager
async def forwarding(target: str) -> AsyncIterator[Forwarder]:
    """A forwarder to the server of this address."""
    forwarder = Forwarder(target)
    server = await asyncio.start_server(forwarder.connect, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    forwarder.url = target.replace(f":{urlsplit(target).port}", f":{port}")
    try:
        yield forwarder
    finally:
        server.close()
        forwarder.close()
