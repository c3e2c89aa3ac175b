"""A job's log, written as its worker would write it, so that a test decides its events and their time.

`JobSide` is the job side of Redis, on a connection of its own; `LogWriter` is one execution of one job. Messages can be
lost on purpose: an `unheard` job side logs its entries, but publishes nothing that a reader receives. Not here:
providers.
"""

import asyncio
import dataclasses
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from shared.config.settings import Settings
from shared.model.errors import TailraceError
from shared.model.events import EventId, EventType, encode_data, encode_frame
from shared.model.jobs import JobSpec, Usage, new_job_id
from shared.model.kinds import CHAT
from shared.model.lanes import DEFAULT_LANE
from shared.process.clock import SystemClock
from shared.store.client import Client, open_client
from shared.store.executions import Execution, Executions
from shared.store.jobs import JobRecords
from shared.store.keys import JobKeys, Keys
from shared.store.queue import Queue
from shared.store.replay_log import Entry, ReplayLog
from shared.store.wire.answers import Taken, Written
from tests.support.short_settings import redis_url_of
from worker.execution.ending import Ending, completed, ended_badly, finish
from worker.model.digest import StreamDigest

TIMEOUT_S = 5.0
PROMPT = [{"role": "user", "content": "Hello?"}]


class UnheardKeys(Keys):
    """Keys with channels that have no subscriber: entries that are written with them are in the log only."""

    def job(self, job_id: str) -> JobKeys:
        """Return the keys of `job_id`, but for its channel."""
        return dataclasses.replace(super().job(job_id), channel=self.channel(job_id) + ":unheard")


class JobSide:
    """The job side of Redis, in a worker's place."""

    def __init__(self, client: Client, settings: Settings, *, unheard: bool = False) -> None:
        self.client = client
        self.keys = (UnheardKeys if unheard else Keys)(settings.key_prefix)
        self.store = JobRecords(client, self.keys, retention_s=settings.retention_s)
        self.executions = Executions(client, self.keys, retention_s=settings.retention_s)
        self.log = ReplayLog(client, self.keys)
        self.queue = Queue(client, self.keys)

    async def create(self, *, tenant: str = "alice", job_id: str | None = None) -> str:
        """Create a queued job that is in no lane, so that no worker takes it; return its id."""
        job_id = job_id or new_job_id(SystemClock().wall_ms(), secrets.randbits(80))
        request = encode_data({"model": "scripted", "messages": PROMPT})
        spec = JobSpec(job_id, CHAT, tenant, DEFAULT_LANE, "scripted", request, timeout_s=60.0)
        await self.store.create(spec, 1)
        return job_id

    async def begin(self, job_id: str) -> "LogWriter":
        """Begin the next execution of a job."""
        epoch = (await self.store.load(job_id)).last.epoch
        execution = await self.executions.begin(job_id, _owner(), epoch=epoch, model="scripted", provider="test")
        assert isinstance(execution, Execution), execution
        return LogWriter(self, execution)

    async def take(self) -> "LogWriter":
        """Wait for the next job of the lane and begin it."""
        async with asyncio.timeout(TIMEOUT_S):
            while not isinstance(taken := await self.queue.take([DEFAULT_LANE], _owner(), lease_s=60), Taken):
                await self.queue.wait_for_wake_up(self.client, [DEFAULT_LANE], TIMEOUT_S)
        return await self.begin(taken.job_id)

    async def begin_the_end(self, job_id: str) -> "LogWriter":
        """Return the next epoch of a job, for a process that ends it in its worker's place."""
        execution = await self.executions.take_over(job_id, _owner())
        assert isinstance(execution, Execution), execution
        return LogWriter(self, execution)

    async def started(self, **options: Any) -> "LogWriter":
        """Create a job that runs. Options: see `create`."""
        return await self.begin(await self.create(**options))

    async def entries(self, job_id: str) -> list[bytes]:
        """Return the job's whole log, entry by entry."""
        raw: Sequence[tuple[bytes, dict[bytes, bytes]]] = await self.client.xrange(self.keys.job(job_id).log)
        return [fields[b"f"] for _, fields in raw]

    async def logged(self, job_id: str) -> bytes:
        """Return the job's whole log, as bytes."""
        return b"".join(await self.entries(job_id))


class LogWriter:
    """One execution of one job."""

    def __init__(self, job_side: JobSide, execution: Execution) -> None:
        self.job_side = job_side
        self.execution = execution
        self.job_id = execution.job_id
        self._seq = execution.seq
        self._tally = StreamDigest()

    @property
    def last(self) -> EventId:
        """Return the last event that was written."""
        return EventId(self.execution.epoch, self._seq)

    def entry(self, *deltas: Any) -> Entry:
        """One entry with a delta for each text, or for each delta object; it must be appended before the next."""
        first, frames = self._seq + 1, []
        for delta in deltas:
            data = encode_data(delta if isinstance(delta, dict) else {"content": delta})
            self._seq += 1
            self._tally.add(data)
            frames.append(encode_frame(EventType.DELTA, data, self.last))
        return Entry(self.job_id, self.execution.epoch, self.execution.owner, first, self._seq, b"".join(frames))

    async def say(self, *deltas: Any) -> bytes:
        """Append one entry, see `entry`; its frames."""
        entry = self.entry(*deltas)
        answers = await self.job_side.log.append([entry])
        assert answers == [Written()], answers
        return entry.frames

    async def complete(self, finish_reason: str = "stop") -> None:
        """The terminal event of success."""
        usage = Usage(prompt_tokens=1, completion_tokens=self._tally.deltas, source="provider")
        await self._end(completed([finish_reason], usage, self._tally))

    async def fail(self, error: TailraceError) -> None:
        """A bad end."""
        await self._end(ended_badly(error, None, self._tally))

    async def _end(self, ending: Ending) -> None:
        answer = await finish(self.job_side.executions, self.execution, ending, self._seq + 1)
        assert answer == Written(), answer
        self._seq += 1


def _owner() -> str:
    """Make a new owner for each execution, as a worker does."""
    return f"writer-{secrets.token_hex(6)}"


@asynccontextmanager
async def job_side(settings: Settings, *, unheard: bool = False) -> AsyncIterator[JobSide]:
    """Open the job side with connections of its own."""
    client = open_client(redis_url_of(settings))
    try:
        yield JobSide(client, settings, unheard=unheard)
    finally:
        await client.aclose()
