"""The core on one test's own keys: store, log, queue and dead letters, ready to use, with helpers to inspect them.

For the tests of shared/ and of its direct users. Not here: gateways and workers.
"""

import asyncio
import logging
import secrets
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from os import kill
from typing import Any, NoReturn

import structlog

from shared.model.errors import Cancelled
from shared.model.events import START, Event, EventId, EventType, decode_frame, encode_data, encode_frame, split_frames
from shared.model.jobs import Job, JobIds, JobSpec
from shared.model.lanes import DEFAULT_LANE
from shared.model.lifecycle import State
from shared.model.parents import OnParentFailure, Parents
from shared.process.embedded_valkey import EmbeddedValkey
from shared.store.children import Children
from shared.store.client import Client, Functions, open_client
from shared.store.dead_letters import DeadLetters
from shared.store.executions import Execution, Executions
from shared.store.jobs import JobRecords
from shared.store.keys import Keys
from shared.store.queue import Queue
from shared.store.queue_admission import QueueAdmission
from shared.store.replay_log import Entry, ReplayLog
from shared.store.tenant_lists import TenantLists
from shared.store.viewers import Viewers
from shared.store.waiting_jobs import WaitingJobs
from shared.store.wire.answers import AppendAnswer, CancelAnswer, FinishAnswer

TIMEOUT_S = 5.0
"""How long a test waits for anything."""
RETENTION_S = 60.0
DEAD_LETTER_RETENTION_S = 120.0
MOST_DEAD_LETTERS = 5
WORKER = "worker.1"
_ALL = 1 << 30
_IDS = JobIds()
_END_OF_LISTENING = b"the test has received enough"


def fresh_job_id() -> str:
    """Make a job id that was not used before, and sorts behind those made before."""
    return _IDS.next(time.time_ns() // 1_000_000, secrets.randbits(80))


def make_spec(**changes: Any) -> JobSpec:
    """Make a job as a caller might submit it."""
    spec = JobSpec(
        id=fresh_job_id(),
        kind="chat",
        tenant="alice",
        lane=DEFAULT_LANE,
        model="a-model",
        request=b'{"model":"a-model","messages":[{"role":"user","content":"Hi"}]}',
        timeout_s=30.0,
        fingerprint="f1",
    )
    return replace(spec, **changes)


def frames_of(execution: Execution, first: int, *texts: str) -> Entry:
    """One entry of deltas, the first of them event `first` of the execution."""
    frames = [
        encode_frame(EventType.DELTA, encode_data({"content": text}), EventId(execution.epoch, seq))
        for seq, text in enumerate(texts, first)
    ]
    last = first + len(texts) - 1
    return Entry(execution.job_id, execution.epoch, execution.owner, first, last, b"".join(frames))


@dataclass(frozen=True)
class Core:
    """The core's objects on one connection pool."""

    client: Client
    keys: Keys
    functions: Functions
    store: JobRecords
    executions: Executions
    log: ReplayLog
    queue: Queue
    queue_admission: QueueAdmission
    children: Children
    waiting: WaitingJobs
    tenant_lists: TenantLists
    viewers: Viewers
    dead_letters: DeadLetters

    async def queued(self, **changes: Any) -> str:
        """Create a job that has a record and waits; it is in no lane."""
        spec = make_spec(**changes)
        assert (await self.store.create(spec, 1)).new
        return spec.id

    async def waiting_for(self, *parent_ids: str, **changes: Any) -> Job:
        """Create a job that waits for these parents, named p0, p1 and so on; it is not in their lists."""
        jobs = {f"p{number}": parent_id for number, parent_id in enumerate(parent_ids)}
        policy = changes.pop("on_failure", OnParentFailure.FAIL)
        spec = make_spec(parents=Parents(jobs, policy), **changes)
        return (await self.store.create(spec, 1)).job

    async def begin(self, job_id: str, owner: str = WORKER, **how: Any) -> Execution:
        """Begin a job that may begin; `how` goes to `Executions.begin`."""
        epoch = (await self.job(job_id)).last.epoch
        execution = await self.executions.begin(
            job_id, owner, epoch=epoch, model="a-model", provider="a-provider", **how
        )
        assert isinstance(execution, Execution), execution
        return execution

    async def running(self, owner: str = WORKER, **changes: Any) -> Execution:
        """Create a job that runs."""
        return await self.begin(await self.queued(**changes), owner)

    async def take_over(self, job_id: str, owner: str = "reaper") -> Execution:
        """Take over a job that may be taken over."""
        execution = await self.executions.take_over(job_id, owner)
        assert isinstance(execution, Execution), execution
        return execution

    async def cancel(self, job_id: str) -> CancelAnswer:
        """Cancel a job on request."""
        return await self.store.cancel(job_id, Cancelled("The job was cancelled on request."))

    async def finish(self, execution: Execution, status: State, *, seq: int | None = None) -> FinishAnswer:
        """Finish an execution, by default right after its logged events."""
        if seq is None:
            latest = (await self.tails(execution.job_id))[0]
            seq = latest.seq + 1
        data = encode_data({"sha256": "", "events": execution.base + seq})
        frame = encode_frame(EventType(status.value), data, EventId(execution.epoch, seq))
        return await self.executions.finish(execution, seq=seq, frame=frame, status=status, outcome=data)

    async def tails(self, *job_ids: str) -> list[EventId]:
        """Return the positions of the jobs' logs."""
        return [tail for tail in await self.log.tails(job_ids) if tail is not None]

    async def append(self, *entries: Entry) -> list[AppendAnswer]:
        """Append as the pump does."""
        return await self.log.append(entries)

    async def job(self, job_id: str) -> Job:
        """Return the job's record."""
        return await self.store.load(job_id)

    async def log_bytes(self, job_id: str) -> bytes:
        """Return the whole log, as one text."""
        page = await self.log.read_after(job_id, START, max_bytes=_ALL)
        return b"".join(page.entries)

    async def events(self, job_id: str) -> list[Event]:
        """Return the whole log, taken apart."""
        return [decode_frame(frame) for frame in split_frames(await self.log_bytes(job_id))]

    async def story(self, job_id: str) -> list[str]:
        """Return the whole log, as `0-1 queued`, `1-1 started` and so on."""
        return [f"{event.id} {event.type}" for event in await self.events(job_id)]

    async def depth(self, lane: str) -> int:
        """Jobs in the lane, running ones included."""
        return int(await self.client.zcard(self.keys.lane(lane)))

    async def age(self, job_id: str, by_s: float) -> None:
        """Let the job have been created earlier than it was."""
        await self.client.hincrby(self.keys.job(job_id).record, "created", -int(by_s * 1000))  # type: ignore[misc]

    @asynccontextmanager
    async def listening(self, channel: str) -> AsyncIterator["Listener"]:
        """Hear the messages that are published on a channel from here on."""
        async with self.client.pubsub() as pubsub:
            await pubsub.subscribe(channel)
            assert (await anext(pubsub.listen()))["type"] == "subscribe"
            yield Listener(self.client, channel, pubsub.listen())


class Listener:
    """A channel's messages since listening began."""

    def __init__(self, client: Client, channel: str, messages: AsyncIterator[dict[str, Any]]) -> None:
        self._client = client
        self._channel = channel
        self._messages = messages

    async def received(self) -> list[bytes]:
        """Return each message that was published so far and not returned yet."""
        await self._client.publish(self._channel, _END_OF_LISTENING)
        found: list[bytes] = []
        async with asyncio.timeout(TIMEOUT_S):
            async for message in self._messages:
                if message["data"] == _END_OF_LISTENING:
                    break
                found.append(message["data"])
        return found


@asynccontextmanager
async def open_core(url: str, prefix: str, **options: Any) -> AsyncIterator[Core]:
    """The core's objects under a key prefix; `options` go to `open_client`."""
    client = open_client(url, **options)
    keys = Keys(prefix)
    store, queue = JobRecords(client, keys, retention_s=RETENTION_S), Queue(client, keys, has_jobs=True)
    children = Children(client, keys, retention_s=RETENTION_S)
    async with client:
        yield Core(
            client,
            keys,
            Functions(client, keys),
            store,
            Executions(client, keys, retention_s=RETENTION_S, failed_retention_s=DEAD_LETTER_RETENTION_S),
            ReplayLog(client, keys),
            queue,
            QueueAdmission(client, keys),
            children,
            WaitingJobs(client, keys, children, store, queue),
            TenantLists(client, keys),
            Viewers(client, keys),
            DeadLetters(
                client,
                keys,
                retention_s=RETENTION_S,
                dead_letter_retention_s=DEAD_LETTER_RETENTION_S,
                most=MOST_DEAD_LETTERS,
                most_of_tenant=MOST_DEAD_LETTERS,
            ),
        )


class LogEvents:
    """Collect the log lines of a test, and wait for them."""

    def __init__(self) -> None:
        self._seen: list[dict[str, Any]] = []
        self._more = asyncio.Event()

    def __call__(self, _: Any, __: str, event: MutableMapping[str, Any]) -> NoReturn:
        """Take one line from structlog."""
        self._seen.append(dict(event))
        self._more.set()
        raise structlog.DropEvent

    def named(self, name: str) -> list[dict[str, Any]]:
        """All log events of this name so far."""
        return [event for event in self._seen if event["event"] == name]

    def about(self, job_id: str) -> list[str]:
        """All names of log events about this job so far."""
        return [event["event"] for event in self._seen if event.get("job") == job_id]

    async def wait_for(self, name: str, times: int = 1) -> None:
        """Wait until this was logged so many times."""
        async with asyncio.timeout(TIMEOUT_S):
            while len(self.named(name)) < times:
                self._more.clear()
                await self._more.wait()


@contextmanager
def captured_logs(*, as_written: bool = False) -> Iterator[LogEvents]:
    """Take the lines that are logged in this block.

    `as_written`: those of level info and above only, with the ids that their context has.
    """
    former = structlog.get_config()
    events = LogEvents()
    if as_written:
        levels = structlog.make_filtering_bound_logger(logging.INFO)
        structlog.configure(processors=[structlog.contextvars.merge_contextvars, events], wrapper_class=levels)
    else:
        structlog.configure(processors=[events])
    try:
        yield events
    finally:
        structlog.configure(**former)


class Watched:
    """Something that changes, and can be waited for."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def change(self) -> None:
        """Wake the waiters, to check again."""
        self._changed.set()

    async def until(self, so: Callable[[], bool]) -> None:
        """Wait until it is so, as long as it changes."""
        while not so():
            self._changed.clear()
            async with asyncio.timeout(TIMEOUT_S):
                await self._changed.wait()


@contextmanager
def frozen(valkey: EmbeddedValkey) -> Iterator[Callable[[], None]]:
    """A server that keeps its connections and answers nothing, until the yielded function is called."""
    assert valkey.pid is not None
    pid = valkey.pid
    kill(pid, signal.SIGSTOP)
    try:
        yield lambda: kill(pid, signal.SIGCONT)
    finally:
        kill(pid, signal.SIGCONT)
