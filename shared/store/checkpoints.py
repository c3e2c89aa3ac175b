"""The checkpoints of functions: a later execution continues at the last one.

A checkpoint takes the place of the job's result, which such a job has in its terminal event.
Not here: the meaning of the bytes (worker/execution/job_context.py).
"""

from redis.asyncio import Redis

from shared.store.client import Functions
from shared.store.executions import Execution
from shared.store.keys import Keys
from shared.store.wire.answers import StopReason, Written, parse_finish_answer


class Checkpoints:
    """The checkpoints of all jobs."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._functions = Functions(client, keys)
        self._keys = keys

    async def save(self, execution: Execution, data: bytes) -> Written | StopReason:
        """Replace the checkpoint of a job, unless the execution has lost it; idempotent.

        Raises:
            RedisError, OSError: one of `REDIS_DOWN`, or one of `REDIS_FULL` if the server's memory is full.
        """
        keys = self._keys.job(execution.job_id)
        args = (execution.epoch, execution.owner, data)
        answer = parse_finish_answer(await self._functions.call("save_checkpoint", [keys.record, keys.result], *args))
        assert isinstance(answer, Written | StopReason)  # noqa: S101 - the function has no other answers
        return answer

    async def load(self, job_id: str) -> bytes | None:
        """Read the last checkpoint of a job; None if it has none."""
        found: bytes | None = await self._client.get(self._keys.job(job_id).result)
        return found
