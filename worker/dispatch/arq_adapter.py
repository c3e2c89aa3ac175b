"""Run claimed jobs with arq: one arq worker per lane, on Tailrace's names for arq's keys.

Only arq's `run_job` is used. arq's polling, its WATCH and its own endings are not: arq 0.28 reads from the head of a
queue in which running jobs stay, so that the cost of each poll grows with the number of running jobs.
Not here: the choice of the next job and its claim (dispatcher.py), and the messages
(shared/store/wire/arq_messages.py).
"""

import asyncio
from typing import Any, Protocol

from arq.connections import ArqRedis
from arq.worker import Function, Worker
from redis.asyncio.client import Pipeline

from shared.store.client import Client
from shared.store.keys import ARQ, ARQ_JOB, Keys
from shared.store.wire.answers import ArqEntry, Taken
from shared.store.wire.arq_messages import ARQ_FUNCTION, deserialize, read_message, serialize

# arq's own limits, set so that they never end a job: deadlines and attempts are the store's.
_PRACTICALLY_NEVER = 10**8


class JobHandler(Protocol):
    """The calls that the adapter makes for one claimed job."""

    async def run_job(self, job_id: str) -> None:
        """Run a job with a valid message."""

    async def end_unreadable(self, job_id: str) -> None:
        """Handle a job with a message that is garbage, another job's, or lost."""


class ArqAdapter:
    """The arq workers of one process, by lane."""

    def __init__(self, client: Client, keys: Keys, handler: JobHandler, *, slots: int) -> None:
        self._pool = _Pool(client, keys)
        self._keys = keys
        self._handler = handler
        self._slots = slots
        self._workers: dict[str, LaneWorker] = {}

    async def run(self, taken: Taken) -> None:
        """Check the message of a claimed job and pass the job to the handler.

        Raises:
            RedisError, OSError: the server failed before the handler was called; see `REDIS_FAULTS`.
        """
        if taken.entry is not None:
            self._pool.entries[taken.job_id] = taken.entry
        await self._worker(taken.lane).run_job(taken.job_id, taken.due_ms)

    def _worker(self, lane: str) -> "LaneWorker":
        worker = self._workers.get(lane)
        if worker is None:
            worker = LaneWorker(self._keys.lane(lane), self._pool, self._handler, self._slots)
            self._workers[lane] = worker
        return worker


class LaneWorker(Worker):
    """arq's worker for one lane: only its `run_job` is used, not its loop."""

    def __init__(self, queue_name: str, pool: ArqRedis, handler: JobHandler, slots: int) -> None:
        super().__init__(
            [Function(ARQ_FUNCTION, self._call_handler, None, None, None, None)],
            queue_name=queue_name,
            redis_pool=pool,
            handle_signals=False,
            max_jobs=slots,
            job_timeout=_PRACTICALLY_NEVER,
            max_tries=_PRACTICALLY_NEVER,
            keep_result=0,
            log_results=False,
            job_serializer=_no_result,
            job_deserializer=read_message,
        )
        self._handler = handler
        self.job_tasks = _TasksOfJobs()

    async def _call_handler(self, ctx: dict[Any, Any], *args: Any) -> None:
        """Pass a job on; arq calls this with the only argument of its message, the job's id."""
        job_id = ctx["job_id"]
        if args == (job_id,):
            await self._handler.run_job(job_id)
        else:
            await self._handler.end_unreadable(job_id)

    async def finish_job(self, job_id: str, finish: bool, *_: Any) -> None:
        """Do nothing: the completion steps of the job have removed its arq entry, as the last step (design, Finish)."""

    async def finish_failed_job(self, job_id: str, _: bytes | None) -> None:
        """End a job if arq could not read its message: without this, the job would never end."""
        await self._handler.end_unreadable(job_id)


class _Pool(ArqRedis):
    """arq's client with Tailrace's names for arq's keys; `run_job` accesses them in a pipeline.

    `entries` are those of jobs about to run that `take` has read and counted, so that arq need not.
    """

    def __init__(self, client: Client, keys: Keys) -> None:
        super().__init__(connection_pool=client.connection_pool, job_serializer=serialize, job_deserializer=deserialize)
        self._base = keys.arq_base
        self.entries: dict[str, ArqEntry] = {}

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        options = (self.connection_pool, self.response_callbacks, transaction, shard_hint)
        return _Pipeline(self._base, self.entries, *options)


class _Pipeline(Pipeline):
    def __init__(self, base: str, entries: dict[str, ArqEntry], *args: Any) -> None:
        super().__init__(*args)
        self._base = base
        self._entries = entries
        self._entry: ArqEntry | None = None

    def execute_command(self, word: str, name: str, *args: Any, **options: Any) -> Any:
        if word == "GET":
            self._entry = self._entries.pop(name.removeprefix(ARQ_JOB), None)
        return super().execute_command(word, self._base + name.removeprefix(ARQ), *args, **options)

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Answer from the job's entry if it was read: its message, its tries, and that their count was kept."""
        if self._entry is None:
            answers: list[Any] = await super().execute(raise_on_error)
            return answers
        self.command_stack.clear()
        return [self._entry.message, self._entry.tries, True]


class _TasksOfJobs(dict[str, "asyncio.Task[Any]"]):
    """arq's running tasks by job id; arq needs them for aborts, which are not used.

    A job lost to another worker may return while its former task still closes its upstream. The task that ends last
    then finds the entry removed already, which must not be an error.
    """

    def __delitem__(self, job_id: str) -> None:
        self.pop(job_id, None)


def _no_result(_: dict[str, Any]) -> bytes:
    """Return an empty result: results are not kept, and arq's own (its exceptions) can't be encoded as JSON."""
    return b""
