"""A server that speaks the protocol of Redis and breaks its rules on demand. Not here: any command but GET and ECHO."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import hiredis


class RogueRedis:
    """Answers GET with the key itself. The part of the key before the colon names a fault.

    twice: the answer comes twice. later: the second time it comes with the answers to the next write. error: an error
    answer. never: no answer. held: no answer before `release`. cut: the connection ends. half: it ends within the
    answer. noise: bytes that are not of the protocol. busy: it and all that follow are answered with an error.
    """

    def __init__(self) -> None:
        self.url = ""
        self.connections = 0
        self.asked: list[bytes] = []
        self._released = asyncio.Event()
        self._held = asyncio.Event()

    async def until_held(self) -> None:
        """Wait until a command is held."""
        await self._held.wait()

    def release(self) -> None:
        """Answer the commands that were held, and hold no other."""
        self._released.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        try:
            await self._answer(reader, writer)
        except ConnectionError:
            pass  # the client was faster
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        commands = hiredis.Reader()
        late, is_busy = b"", False
        while data := await reader.read(65_536):
            commands.feed(data)
            writer.write(late)
            late = b""
            while (command := commands.gets()) is not False:
                _, text = command
                self.asked.append(text)
                kind = text.partition(b":")[0]
                answer = b"$%d\r\n%b\r\n" % (len(text), text)
                is_busy = is_busy or kind == b"busy"
                if kind == b"error":
                    answer = b"-ERR refused %b\r\n" % text
                if is_busy:
                    answer = b"-BUSY in a script\r\n"
                if kind == b"held":
                    self._held.set()
                    await self._released.wait()
                if kind in (b"cut", b"half"):
                    writer.write(answer[:-4] if kind == b"half" else b"")
                    return
                if kind == b"noise":
                    answer = b"HTTP/1.1 400 Bad Request\r\n\r\n"
                writer.write({b"never": b"", b"twice": answer + answer}.get(kind, answer))
                late = answer if kind == b"later" else late
            await writer.drain()


@asynccontextmanager
async def running_rogue() -> AsyncIterator[RogueRedis]:
    """Yield a rogue server that ends with the block."""
    rogue = RogueRedis()
    server = await asyncio.start_server(rogue.serve, "127.0.0.1", 0)
    rogue.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield rogue
    finally:
        rogue.release()
        server.close()
