"""A receiver of webhooks on a socket of this process: it records each attempt, and answers as its test decides.

Not here: the verification of signatures, which is the official client's.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.support.core import Watched


@dataclass(frozen=True)
class ReceivedAttempt:
    """One attempt, as it came over the wire."""

    head: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """Return the delivery's id."""
        return self.headers["webhook-id"]


class WebhookReceiver:
    """Records attempts. `answer` gets each with its number, from 1, and returns the head of an answer."""

    def __init__(self, answer: Callable[[int, ReceivedAttempt], str]) -> None:
        self.attempts: list[ReceivedAttempt] = []
        self.url = ""
        self._answer = answer
        self._changed = Watched()

    async def until(self, so: Callable[[], bool]) -> None:
        """Wait until it is so; checks again at each attempt."""
        await self._changed.until(so)

    async def received(self, number: int = 0) -> ReceivedAttempt:
        """Wait for the attempt of this number, and return it."""
        await self.until(lambda: len(self.attempts) > number)
        return self.attempts[number]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read one attempt and answer it."""
        try:
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            attempt = ReceivedAttempt(first, headers, await reader.readexactly(int(headers["content-length"])))
            self.attempts.append(attempt)
            writer.write(f"HTTP/1.1 {self._answer(len(self.attempts), attempt)}\r\n\r\n".encode())
            await writer.drain()
            self._changed.change()
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # the sender was killed
        finally:
            writer.close()


@asynccontextmanager
async def webhook_receiver(
    answer: Callable[[int, ReceivedAttempt], str] = lambda _, __: "204 No Content",
) -> AsyncIterator[WebhookReceiver]:
    """Run a receiver on a free port of 127.0.0.1."""
    receiver = WebhookReceiver(answer)
    async with await asyncio.start_server(receiver.serve, "127.0.0.1", 0) as server:
        receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
        yield receiver
