"""A job's frames on their way to a caller in a dialect: read, translated, and held back until the answer has begun.

Above: the handlers of the dialects that stream. Below: hub.py, and a pure translator. Not here: any wire format.
"""

import asyncio
from typing import Protocol

from gateway.dialects.errors import Failure, failure_of
from gateway.streams.reader import HEARTBEAT, Reader, StreamBroken
from shared.model.errors import JobNotFound, Unavailable
from shared.model.events import Event, decode_frame, split_frames


class Translator(Protocol):
    """What a dialect makes of a job's events, see dialects/chat.py."""

    @property
    def shown(self) -> bool:
        """Whether there is something that the caller has been shown."""
        ...

    @property
    def ended(self) -> bool:
        """Whether nothing follows any more."""
        ...

    @property
    def failure(self) -> Failure | None:
        """Why it ended badly."""
        ...

    def translate(self, event: Event) -> bytes:
        """What this event is in the dialect; empty where it has no word for it."""
        ...

    def failure_frame(self) -> bytes:
        """What tells of the failure, for a caller whose headers went out already."""
        ...

    def interruption(self, failure: Failure) -> bytes:
        """Write why the stream breaks off here, though its job goes on."""
        ...


class DialectStream:
    """A reader's frames, translated; see `sse.Source`.

    A failure that the translator kept to itself, since nothing was shown, is told once the headers are `out`.
    """

    def __init__(self, reader: Reader, translator: Translator, *, started: bool = False) -> None:
        """With `started`, the headers go out before there is an `opening`."""
        self.translator = translator
        self._reader = reader
        self._out = started
        self._told = False
        self._interrupted = False

    async def opening(self, hold_s: float) -> bytes:
        """What goes out with the headers: all up to the answer's first piece, or a heartbeat where that takes long.

        Empty where there is nothing: nobody is there to be answered, or the job ended without a word, and what becomes
        of that is a matter of HTTP.
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

        Before a break comes the dialect's error: some proxies turn a break into a clean end, by which an answer that
        was cut off would look whole.

        Raises:
            StreamBroken: this process can't serve the reader any longer.
            JobNotFound: the job is gone.
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
        """What these frames say in this dialect."""
        return b"".join(self.translator.translate(decode_frame(frame)) for frame in split_frames(frames))

    def _late_failure(self) -> bytes:
        told, self._told = self._told, True
        return b"" if told else self.translator.failure_frame()


def _failure_of(error: StreamBroken | JobNotFound) -> Failure:
    """Say that the same request can help: a job that is gone was there when the stream began."""
    gone = isinstance(error, JobNotFound)
    return failure_of(Unavailable("Redis was killed and lost this answer; try again." if gone else str(error)))
