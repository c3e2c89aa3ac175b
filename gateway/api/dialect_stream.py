"""Translate a job's frames for a caller in a dialect, held back until the answer has begun. Not here: wire formats."""

import asyncio
from typing import Protocol

from gateway.dialects.errors import Failure, failure_of
from gateway.streams.reader import HEARTBEAT, Reader, StreamBroken
from shared.model.errors import JobNotFound, Unavailable
from shared.model.events import Event, decode_frame, split_frames


class Translator(Protocol):
    """Translate a job's events into a dialect, see dialects/chat."""

    @property
    def shown(self) -> bool:
        """Return whether the caller has been shown anything."""
        ...

    @property
    def ended(self) -> bool:
        """Return whether the stream has ended."""
        ...

    @property
    def failure(self) -> Failure | None:
        """Return the failure that ended the job, if any."""
        ...

    def translate(self, event: Event) -> bytes:
        """Translate an event; empty if the dialect has no equivalent."""
        ...

    def failure_frame(self) -> bytes:
        """Return the frame that reports the failure after the headers were sent."""
        ...

    def interruption(self, failure: Failure) -> bytes:
        """Return the frame that explains why the stream breaks off here although its job continues."""
        ...


class DialectStream:
    """Supply a reader's frames, translated; see `sse.Source`.

    If nothing was shown, the translator withholds a failure; it is sent here once the headers are `out`.
    """

    def __init__(self, reader: Reader, translator: Translator, *, started: bool = False) -> None:
        """Translate a reader's frames. With `started`, the headers go out before there is an `opening`."""
        self.translator = translator
        self._reader = reader
        self._out = started
        self._failure_sent = False
        self._interrupted = False

    async def opening(self, hold_s: float) -> bytes:
        """Return the bytes to send with the headers: all up to the answer's first piece, or a heartbeat after `hold_s`.

        Empty if the caller has left, or if the job ended before its answer began: that becomes an HTTP status.
        """
        held: list[bytes] = []
        try:
            async with asyncio.timeout(hold_s):
                while not (self.translator.shown or self.translator.ended) and (data := await self.chunk()):
                    if data is not HEARTBEAT:
                        held.append(data)
        except TimeoutError:
            held = held or [HEARTBEAT]
        self._out = True
        return b"".join(held)

    async def chunk(self) -> bytes:
        """Wait for the next wire frames, or a heartbeat; empty at the end.

        The dialect's error is sent before a break: some proxies turn a break into a clean end, by which an answer that
        was cut off would look whole.

        Raises:
            StreamBroken: this process can't serve the reader any longer.
            JobNotFound: the job does not exist any more.
        """
        try:
            return await self._next()
        except (StreamBroken, JobNotFound) as error:
            if not self._out or self._interrupted:
                raise
            self._interrupted = True
            return self.translator.interruption(_failure_of(error))

    async def _next(self) -> bytes:
        while not self.translator.ended:
            frames = await self._reader.chunk()
            if not frames or frames is HEARTBEAT:
                return frames
            if wire := self.translate(frames):
                return wire
        return self._late_failure() if self._out and not self.translator.shown else b""

    def translate(self, frames: bytes) -> bytes:
        """Translate frames into this dialect."""
        return b"".join(self.translator.translate(decode_frame(frame)) for frame in split_frames(frames))

    def _late_failure(self) -> bytes:
        sent, self._failure_sent = self._failure_sent, True
        return b"" if sent else self.translator.failure_frame()


def _failure_of(error: StreamBroken | JobNotFound) -> Failure:
    """Return a failure that lets the caller repeat the request: a lost job existed when the stream began."""
    gone = isinstance(error, JobNotFound)
    return failure_of(Unavailable("The answer was lost in a failure of Redis; try again." if gone else str(error)))
