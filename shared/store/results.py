"""Results that are no stream: kept part by part while a job runs, read page by page.

A part and the event that tells of it are one step, so that what a reader was told is there, and whoever takes the job
over goes on behind it. Above: embedding.py writes, gateway/api/results.py reads. Below: functions/. Not here:
what the bytes mean (jobs.py, `Embedded`).
"""

from collections.abc import AsyncIterator

from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from shared.model.events import encode_data
from shared.model.jobs import Embedded
from shared.store.answers import AppendAnswer, Busy, parse_finish_answer
from shared.store.client import Functions
from shared.store.jobs import Execution
from shared.store.keys import Keys


class Results:
    """The results of all jobs."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._functions = Functions(client, keys)
        self._keys = keys

    async def keep(
        self, execution: Execution, *, seq: int, frame: bytes, place: int, part: bytes, embedded: Embedded
    ) -> AppendAnswer:
        """Write a part of the result behind the first `place` bytes, and its progress event `seq`.

        `embedded` is the state of the result including this part.
        """
        keys = self._keys.job(execution.job_id)
        try:
            answer: bytes = await self._functions.call(
                "keep",
                [keys.record, keys.log, keys.channel, keys.result],
                execution.epoch,
                execution.owner,
                seq,
                frame,
                place,
                part,
                encode_data(embedded.as_dict()),
            )
        except OutOfMemoryError as error:
            return Busy(str(error))
        return parse_finish_answer(answer)

    async def page(self, job_id: str, begin: int, end: int) -> bytes:
        """The result's bytes from `begin` to before `end`; fewer, or none, where it does not go so far (any more)."""
        found: bytes = (
            await self._client.getrange(self._keys.job(job_id).result, begin, end - 1) if begin < end else b""
        )
        return found

    async def pages(self, job_id: str, size: int, page_bytes: int) -> AsyncIterator[bytes]:
        """The first `size` bytes of the result, in pages of `page_bytes`; it ends early where they are not there."""
        for begin in range(0, size, page_bytes):
            end = min(begin + page_bytes, size)
            page = await self.page(job_id, begin, end)
            if len(page) < end - begin:
                return
            yield page
