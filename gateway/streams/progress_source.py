"""Add the progress of a chat to the stream of one reader that asks for it.

The log has no such events: a reader that does not ask gets exactly the log, and resumes byte by byte. The record is
read once for each execution that begins. Not here: the frames (gateway/model/progress_frames.py).
"""

from gateway.model.progress_frames import ProgressFrames
from gateway.streams.reader import HEARTBEAT, Reader
from shared.model.errors import BrokenJob, JobNotFound
from shared.model.jobs import Job
from shared.process.clock import Clock
from shared.store.client import REDIS_DOWN
from shared.store.jobs import JobRecords


class ProgressSource:
    """Provide the bytes of a stream with progress frames between those of the log; see `sse.Source`."""

    def __init__(self, reader: Reader, job: Job, store: JobRecords, clock: Clock) -> None:
        self._reader = reader
        self._store = store
        self._clock = clock
        self._frames = ProgressFrames(job, clock.monotonic())

    async def chunk(self) -> bytes:
        """Return the next bytes, empty at the end. Raises `StreamBroken`."""
        data = await self._reader.chunk()
        # The terminal event says the rest.
        if not data or data is HEARTBEAT or self._reader.ended or not self._frames.is_due(self._clock.monotonic()):
            return data
        at = self._reader.position
        if self._frames.is_outdated(at):
            try:
                self._frames.update(await self._store.load(self._reader.job_id))
            except REDIS_DOWN:
                return data  # a later chunk may find the record
            except (JobNotFound, BrokenJob):
                return data  # the reader itself finds out, and ends
        return data + self._frames.frame(at, self._clock.monotonic())
