"""A server that speaks TLS, in front of one that does not; its certificate names `localhost` and no address."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

_FOLDER = Path(__file__).parent
CA = _FOLDER / "ca.pem"


@dataclass
class Relay:
    """Where it listens, and how many connections it has had."""

    port: int
    password: str
    connections: int = 0

    def url(self, host: str = "localhost", **options: object) -> str:
        """The address of the server behind it, over TLS."""
        query = "&".join(f"{name}={value}" for name, value in {"ssl_ca_certs": CA, **options}.items())
        return f"rediss://:{self.password}@{host}:{self.port}/0?{query}"


@asynccontextmanager
async def running_relay(url: str) -> AsyncIterator[Relay]:
    """A relay to the server at this address."""
    behind = urlsplit(url)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(_FOLDER / "server.pem", _FOLDER / "server.key")
    tasks: set[asyncio.Task[None]] = set()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        relay.connections += 1
        to_server, from_server = await asyncio.open_connection(behind.hostname, behind.port)
        for pair in ((reader, from_server), (to_server, writer)):
            task = asyncio.create_task(pass_on(*pair))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(serve, "localhost", 0, ssl=context)
    relay = Relay(server.sockets[0].getsockname()[1], behind.password or "")
    try:
        yield relay
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
