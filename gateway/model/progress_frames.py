"""Write the progress frames of one reader of a chat, at most four a second. They are not in the log and have no id.

Pure. Not here: the place of the frames in a stream (gateway/streams/progress_source.py), and the progress itself
(shared/model/job_progress.py).
"""

from typing import Any

from shared.model.events import EventId, EventType, encode_data, encode_unlogged
from shared.model.job_progress import progress_of
from shared.model.jobs import Job
from shared.model.progress_count import REPORT_EVERY_S


class ProgressFrames:
    """The progress of one job, as far as its record and its reader's position say."""

    def __init__(self, job: Job, now: float) -> None:
        """Begin with the record of a job that has not ended, at a time in seconds."""
        self._job = job
        self._next_at = now
        self._shown: dict[str, Any] = {}

    def is_due(self, now: float) -> bool:
        """Return whether enough time has passed since the last frame."""
        return now >= self._next_at

    def is_outdated(self, at: EventId) -> bool:
        """Return whether the event belongs to an execution that began after the record was read."""
        return at.epoch > self._job.last.epoch

    def update(self, job: Job) -> None:
        """Continue with a newer record of the job."""
        self._job = job

    def frame(self, at: EventId, now: float) -> bytes:
        """Return the frame for a reader that has got the log up to `at`; empty if it has shown the same, or ended."""
        shown = progress_of(self._job, streams_text=True, at=at).as_dict()
        if self._job.ended or shown == self._shown:
            return b""
        self._shown, self._next_at = shown, now + REPORT_EVERY_S
        return encode_unlogged(EventType.PROGRESS, encode_data(shown))
