"""Results without a stream: stored part by part while a job runs, and read page by page.

Each part is stored atomically with its progress event, so that the next execution continues after the last part. Not
here: the meaning of the bytes (`Embedded` in shared/model/jobs.py).
"""

from collections.abc import AsyncIterator

from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from shared.model.events import encode_data
from shared.model.jobs import Embedded
from shared.store.client import Functions
from shared.store.executions import Execution
from shared.store.keys import Keys
from shared.store.wire.answers import AppendAnswer, Busy, parse_finish_answer


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
        """Read the result's bytes from `begin` to before `end`; fewer if the stored result is shorter."""
        found: bytes = (
            await self._client.getrange(self._keys.job(job_id).result, begin, end - 1) if begin < end else b""
        )
        return found

    async def pages(self, job_id: str, size: int, page_bytes: int) -> AsyncIterator[bytes]:
        """Read the first `size` bytes in pages of `page_bytes`; stop early if the stored result is shorter."""
        for begin in range(0, size, page_bytes):
            end = min(begin + page_bytes, size)
            page = await self.page(job_id, begin, end)
            if len(page) < end - begin:
                return
            yield page
