"""Merge the streams of a workflow's steps into one: the bytes of a stream, and the reader that its client is.

The events of one step keep their order; between steps they come as they arrive. Not here: the form of the frames
(gateway/model/workflow_frames.py), and HTTP (gateway/api/workflow_events.py).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from gateway.model.workflow_frames import WorkflowFrames
from gateway.streams.reader import HEARTBEAT, Reader, StreamBroken
from shared.model.errors import JobNotFound
from shared.store.client import REDIS_DOWN


class StepReaders:
    """The readers of the steps, as the one reader whose client receives all of them; see `sse.Recipient`."""

    def __init__(self, readers: Mapping[int, Reader]) -> None:
        self.by_step = readers
        self.gone = False
        self.left = asyncio.Event()

    @property
    def sending_since(self) -> float | None:
        """Return when the send that still blocks began."""
        return next((reader.sending_since for reader in self.by_step.values()), None)

    @sending_since.setter
    def sending_since(self, value: float | None) -> None:
        # The hub's timer checks each of them.
        for reader in self.by_step.values():
            reader.sending_since = value

    @property
    def timeout(self) -> asyncio.Timeout | None:
        """Return the time-out that the hub's timer uses for a frozen client."""
        return next((reader.timeout for reader in self.by_step.values()), None)

    @timeout.setter
    def timeout(self, value: asyncio.Timeout | None) -> None:
        for reader in self.by_step.values():
            reader.timeout = value

    @property
    def lead(self) -> int:
        """Return the step whose heartbeats are sent: the first that has not ended."""
        return next((step for step, reader in self.by_step.items() if not reader.ended), -1)

    def send_heartbeat(self) -> None:
        """Make a later chunk a heartbeat."""
        if (reader := self.by_step.get(self.lead)) is not None:
            reader.send_heartbeat()

    def leave(self) -> None:
        """End the stream, because the client has disconnected."""
        self.gone = True
        self.left.set()
        for reader in self.by_step.values():
            reader.leave()


Chunk = bytes | StreamBroken | JobNotFound


class WorkflowSource:
    """Provide the bytes of a workflow's stream; see `sse.Source`. Each step has at most one chunk under way."""

    def __init__(
        self, readers: StepReaders, frames: WorkflowFrames, missing: list[int], end: Callable[[], Awaitable[bytes]]
    ) -> None:
        """Stream these readers. The jobs of the `missing` steps are not stored any more; `end` makes the last frame."""
        self._readers = readers
        self._frames = frames
        self._missing = missing
        self._end = end
        self._open = set(readers.by_step)
        self._chunks: asyncio.Queue[tuple[int, Chunk]] = asyncio.Queue(1)
        self._finished = False

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Read all steps as long as the context is open."""
        tasks = [asyncio.create_task(self._follow(step, reader)) for step, reader in self._readers.by_step.items()]
        # A client that leaves must end a wait for steps that are silent.
        tasks.append(asyncio.create_task(self._wake_when_left()))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def chunk(self) -> bytes:
        """Return the next bytes, empty at the end.

        Raises:
            StreamBroken: this process can't serve the steps any longer.
        """
        if self._missing:
            gone = b"".join(self._frames.gone(step) for step in self._missing)
            self._missing = []
            return gone
        while self._open and not self._readers.gone:
            step, data = await self._chunks.get()
            if made := self._made(step, data):
                return made
        if self._readers.gone or self._finished:
            return b""
        self._finished = True
        try:
            return await self._end()
        except REDIS_DOWN as error:
            raise StreamBroken("Redis is away.") from error

    def _made(self, step: int, data: Chunk) -> bytes:
        """Return the bytes of a step's chunk; empty if there is nothing to send."""
        if isinstance(data, StreamBroken):
            raise data
        if data is HEARTBEAT or self._readers.gone:
            return HEARTBEAT if data is HEARTBEAT else b""
        if isinstance(data, JobNotFound):
            self._open.discard(step)
            return self._frames.gone(step)
        if not data:
            self._open.discard(step)
            self._frames.finish(step)
            return b""
        return self._frames.frames(step, data)

    async def _follow(self, step: int, reader: Reader) -> None:
        try:
            while data := await reader.chunk():
                if data is not HEARTBEAT or step == self._readers.lead:
                    await self._chunks.put((step, data))
            await self._chunks.put((step, b""))
        except (StreamBroken, JobNotFound) as error:
            await self._chunks.put((step, error))

    async def _wake_when_left(self) -> None:
        await self._readers.left.wait()
        await self._chunks.put((-1, b""))
