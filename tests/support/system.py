"""The whole system in the test's own process, and the checks that a reader of it can make.

`running_worker` is a worker with any provider; `running_system` is a gateway with everything that a test reads;
`Story` is a job's log as a reader from the start gets it, proven. Not here: real processes (processes.py).
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from gateway.specs.kinds import ADMITTED_KINDS, AdmittedKinds
from shared.config.settings import Settings
from shared.model.events import START, TERMINAL_EVENTS, Event, EventId, EventType, decode_frame, parse_id
from shared.model.jobs import Job
from shared.model.lanes import DEFAULT_LANE
from shared.store.keys import ARQ_IN_PROGRESS, ARQ_JOB, Keys
from shared.store.reconcile_marker import ReconcileMarker
from tests.support.client import Client
from tests.support.controlled_provider import MODEL
from tests.support.core import TIMEOUT_S, Core, open_core
from tests.support.gateway import Gateway, running_gateway
from tests.support.short_settings import redis_url_of
from worker.app import run_worker
from worker.configured_providers import make_providers
from worker.dispatch.reconciler import identity_of
from worker.execution.completion import CompletionStep
from worker.execution.executions import EXECUTABLE_KINDS, ExecutableKinds
from worker.upstream.providers.base import Provider

STOP_S = 15.0
"""How long a worker may take to stop, for whatever reason."""
PROMPT = [{"role": "user", "content": "Hello?"}]


@dataclass(frozen=True)
class Story:
    """All events of one job that has ended. Made by `proven`, so that it is whole and in order."""

    events: list[Event]

    @property
    def types(self) -> list[str]:
        """Return the events' names."""
        return [event.type.value for event in self.events]

    @property
    def deltas(self) -> list[Event]:
        """Return the deltas that survive all rollbacks."""
        return surviving(self.events)

    @property
    def text(self) -> str:
        """Return the text of choice 0."""
        return text_of(self.deltas)

    @property
    def end(self) -> dict[str, Any]:
        """Return the terminal event's data."""
        data: dict[str, Any] = self.events[-1].json()
        return data

    @property
    def code(self) -> str | None:
        """Return the error's code, if it is a bad end."""
        return self.end["error"]["code"] if "error" in self.end else None


def surviving(events: list[Event]) -> list[Event]:
    """Return the deltas that are left when each rollback has been obeyed."""
    deltas: list[Event] = []
    for event in events:
        if event.type is EventType.DELTA:
            deltas.append(event)
        elif event.type is EventType.ROLLBACK:
            to = parse_id(event.json()["to"])
            deltas = [delta for delta in deltas if delta.id is not None and delta.id <= to]
    return deltas


def text_of(deltas: list[Event]) -> str:
    """Return the text of choice 0."""
    said = (delta.json() for delta in deltas)
    return "".join(delta.get("content", "") for delta in said if not delta.get("index"))


def proven(events: list[Event]) -> Story:
    """Check the events of a reader from the start: nothing is missing, nothing comes twice, there is one end."""
    ids = [event.id or START for event in events]
    assert ids[0] == EventId(0, 1)
    assert ids == sorted(set(ids)), ids
    assert events[0].type is EventType.QUEUED
    assert [event.type in TERMINAL_EVENTS for event in events] == [False] * (len(events) - 1) + [True], events
    end = events[-1].json()
    assert end["events"] == len(events)
    assert end["sha256"] == hashlib.sha256(b"".join(delta.data for delta in surviving(events))).hexdigest()
    return Story(events)


def ask(text: str = "Hello?", *, model: str = MODEL, **fields: Any) -> dict[str, Any]:
    """Return a job's body."""
    return {"model": model, "messages": [{"role": "user", "content": text}], **fields}


@dataclass(frozen=True)
class System:
    """A gateway in this process, and its stored state."""

    settings: Settings
    gateway: Gateway
    core: Core

    @property
    def client(self) -> Client:
        """Alice."""
        return self.gateway.client

    @property
    def lane(self) -> str:
        """Return the key of the only lane."""
        return self.core.keys.lane(DEFAULT_LANE)

    @property
    def waiting(self) -> str:
        """The beginning of the command with which a worker waits for a wake-up."""
        return f"BLPOP {self.core.keys.wake_ups('')}"

    async def submit(self, body: dict[str, Any] | None = None, **fields: Any) -> str:
        """Create a job of Alice's; return its id."""
        answer = await self.client.post("/v1/jobs", body or ask(**fields))
        assert answer.status == 202, answer.body
        job_id: str = answer.json()["id"]
        return job_id

    async def cancel(self, job_id: str) -> dict[str, Any]:
        """Cancel through the gateway; the job as it then is."""
        answer = await self.client.post(f"/v1/jobs/{job_id}/cancel")
        assert answer.status == 200, answer.body
        job: dict[str, Any] = answer.json()
        return job

    async def job(self, job_id: str) -> Job:
        """Return the job's record."""
        return await self.core.job(job_id)

    async def story(self, job_id: str, within_s: float = 2 * TIMEOUT_S) -> Story:
        """Wait for the job's end; all its events, proven."""
        async with asyncio.timeout(within_s):
            return await read_story(self.client, job_id)

    async def over(self, job_id: str, within_s: float = 2 * TIMEOUT_S) -> Job:
        """Wait for the job's end without reading it: each reader counts as a viewer, and keeps it running."""
        async with asyncio.timeout(within_s):
            while not (job := await self.job(job_id)).ended:
                pass
        return job

    async def until(self, job_id: str, event: EventType, count: int = 1) -> list[Event]:
        """Wait until a reader has this event so many times; return its events until then."""
        events: list[Event] = []
        async with asyncio.timeout(2 * TIMEOUT_S), self.reading(job_id) as read:
            while sum(each.type is event for each in events) < count:
                events.append(await read())
        return events

    @asynccontextmanager
    async def reading(self, job_id: str) -> AsyncIterator[Callable[[], Awaitable[Event]]]:
        """Read a job's events one by one."""
        async with reading(self.client, job_id) as read:
            yield read

    @asynccontextmanager
    async def commands(self) -> AsyncIterator[Callable[[str], Awaitable[None]]]:
        """Watch the server's commands from here on: wait until one that holds this text has been carried out."""
        async with self.core.client.monitor() as monitor:

            async def seen(text: str) -> None:
                async with asyncio.timeout(TIMEOUT_S):
                    while text not in (await monitor.next_command())["command"]:
                        pass

            yield seen

    # Changes of a test to the record and to the queue.

    async def write(self, job_id: str, **fields: int | str) -> None:
        """Write fields of the record."""
        record = self.core.keys.job(job_id).record
        await self.core.client.hset(record, mapping=dict(fields))  # type: ignore[misc]

    async def due(self, job_id: str) -> None:
        """Let the lane's entry be due, without a wake-up."""
        await self.core.client.zadd(self.lane, {job_id: 0}, xx=True)

    async def check_next(self, job_id: str, score: int = 0) -> None:
        """Let the reaper check the job next."""
        await self.core.client.zadd(self.core.keys.active, {job_id: score}, xx=True)

    async def forgo_reconciling(self) -> None:
        """Leave lost entries of the queue to the reaper, and not to the reconciler (worker/dispatch/reconciler.py)."""
        marker = ReconcileMarker(self.core.client, self.core.keys)
        await marker.complete(await identity_of(self.core.store, self.core.queue))

    async def lose(self, job_id: str) -> None:
        """The queue forgets the job."""
        await self.core.client.zrem(self.lane, job_id)
        await self.core.client.delete(ARQ_JOB + job_id)

    async def queue_keys(self, job_id: str) -> list[str]:
        """Return the queue's remaining entries of a job."""
        client, keys = self.core.client, self.core.keys
        return [
            name
            for name, there in (
                ("lane", await client.zscore(self.lane, job_id) is not None),
                ("active", await client.zscore(keys.active, job_id) is not None),
                ("message", await client.exists(ARQ_JOB + job_id)),
                ("claim", await client.exists(ARQ_IN_PROGRESS + job_id)),
            )
            if there
        ]


@asynccontextmanager
async def reading(client: Client, job_id: str) -> AsyncIterator[Callable[[], Awaitable[Event]]]:
    """Read a job's events one by one, from the start."""
    async with client.stream("GET", f"/v1/jobs/{job_id}/events") as response:
        assert response.status == 200, response.status

        async def read() -> Event:
            frame = await response.frame()
            assert frame, "the stream ended"
            return decode_frame(frame)

        yield read


async def read_story(client: Client, job_id: str) -> Story:
    """Return a job's events up to its end, proven."""
    async with client.stream("GET", f"/v1/jobs/{job_id}/events") as response:
        assert response.status == 200, response.status
        events = await response.events()
        assert response.complete, "the stream was cut off"
    return proven(events)


@asynccontextmanager
async def running_system(settings: Settings, kinds: AdmittedKinds = ADMITTED_KINDS) -> AsyncIterator[System]:
    """A gateway that admits these kinds of jobs, without a worker."""
    async with (
        open_core(redis_url_of(settings), settings.key_prefix) as core,
        running_gateway(settings, kinds=kinds) as gateway,
    ):
        yield System(settings, gateway, core)


class Worker:
    """A worker in this process."""

    def __init__(
        self,
        settings: Settings,
        providers: Mapping[str, Provider],
        kinds: ExecutableKinds = EXECUTABLE_KINDS,
        steps: Sequence[CompletionStep] = (),
    ) -> None:
        self._stop, self._now, self._ready = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._task = asyncio.create_task(
            run_worker(
                settings,
                providers,
                kinds,
                ready=self._ready.set,
                stop=self._stop,
                now=self._now,
                steps=steps,
            )
        )

    async def ready(self) -> None:
        """Wait until it takes jobs."""
        waiting = asyncio.create_task(self._ready.wait())
        await asyncio.wait([waiting, self._task], timeout=TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self._task.done():
            await self._task
        assert self._ready.is_set()

    def drain(self) -> None:
        """The first signal."""
        self._stop.set()

    def hurry(self) -> None:
        """The second signal."""
        self._now.set()

    async def stopped(self) -> None:
        """Wait for its end."""
        async with asyncio.timeout(STOP_S):
            await self._task

    async def close(self) -> None:
        """End it, if it has not ended."""
        self.drain()
        self.hurry()
        await self.stopped()


@asynccontextmanager
async def running_worker(
    settings: Settings,
    provider: Provider | Mapping[str, Provider] | None = None,
    kinds: ExecutableKinds = EXECUTABLE_KINDS,
    *,
    steps: Sequence[CompletionStep] = (),
) -> AsyncIterator[Worker]:
    """A worker that is ready, with those providers that the settings name, or with this one or these in their place.

    `steps` are completion steps beside the worker's own.
    """
    if provider is None:
        provider = make_providers(settings)
    elif not isinstance(provider, Mapping):
        provider = dict.fromkeys(settings.route_table().upstreams, provider)
    worker = Worker(settings, provider, kinds, steps)
    try:
        await worker.ready()
        yield worker
    finally:
        await worker.close()


class Unheard(Keys):
    """Keys under which cancel orders have no subscriber: the control message is lost."""

    @property
    def control(self) -> str:
        """Return a channel that no worker hears."""
        return super().control + ":unheard"
