"""The replay log: append, and read after a cursor.

The worker's pump appends, and the gateway's readers read. For tokens, gateway and worker share only this log and the
live feed (live_feed.py). Not here: the content of a frame (shared/model/events.py), and access rights.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from shared.model.bounds import PAGE_BYTES
from shared.model.errors import JobNotFound
from shared.model.events import START, EventId, last_id, parse_id, split_frames
from shared.model.lifecycle import State
from shared.store.client import Functions, drop_idle_connections
from shared.store.keys import Keys
from shared.store.wire.answers import AppendAnswer, Busy, parse_append_answer

FRAMES_AT_ONCE: Final = 64
"""Frames that a caller gets without a pause, about a millisecond. A page has some 5,000 small ones."""


class Entry(NamedTuple):
    """Frames of one execution, to be appended as one log entry: events `first` to `last` of `epoch`."""

    job_id: str
    epoch: int
    owner: str
    first: int
    last: int
    frames: bytes


class Page(NamedTuple):
    """One page of the log after a cursor. `latest` is the log's last id, `earliest` its first; `more` follows.

    `known` says whether the log holds the cursor's event: Redis may have lost it.
    """

    status: State
    earliest: EventId
    latest: EventId
    known: bool
    entries: list[bytes]
    more: bool


class ReplayLog:
    """The logs of all jobs."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._functions = Functions(client, keys)
        self._keys = keys

    async def append(self, entries: Sequence[Entry]) -> list[AppendAnswer]:
        """Log and publish each entry if its execution may write it, in one round trip."""
        keys: list[str] = []
        args: list[int | str | bytes] = []
        for entry in entries:
            job = self._keys.job(entry.job_id)
            keys += (job.record, job.log, job.channel)
            args += (entry.epoch, entry.owner, entry.first, entry.last, entry.frames)
        try:
            answers: list[bytes] = await self._functions.call("append", keys, *args)
        except OutOfMemoryError as error:
            return [Busy(str(error))] * len(entries)
        return [parse_append_answer(answer) for answer in answers]

    async def read_after(self, job_id: str, cursor: EventId, *, max_bytes: int) -> Page:
        """The entries that hold events after `cursor`, at least one if there is any, up to about `max_bytes`.

        The first entry may begin before the cursor: see `events.after_cursor`. Raises:
            JobNotFound: the job is gone.
        """
        job = self._keys.job(job_id)
        reply = await self._functions.call("read", [job.record, job.log], str(cursor), max_bytes)
        if reply[0] == b"missing":
            raise JobNotFound(f"There is no job {job_id}.")
        status, latest, earliest, known, more, *entries = reply
        return Page(
            State(status.decode()),
            parse_id(earliest) if earliest else START,
            parse_id(latest) if latest else START,
            bool(known),
            entries,
            bool(more),
        )

    async def frames(self, job_id: str) -> AsyncIterator[bytes]:
        """Read all frames of the log, page by page; the event loop gets a turn after every `FRAMES_AT_ONCE` of them.

        Raises:
            JobNotFound: the job is gone.
        """
        cursor, more, count = START, True, 0
        while more:
            page = await self.read_after(job_id, cursor, max_bytes=PAGE_BYTES)
            for entry in page.entries:
                for frame in split_frames(entry):
                    yield frame
                    if (count := count + 1) % FRAMES_AT_ONCE == 0:
                        await asyncio.sleep(0)
                cursor = last_id(entry)
            more = page.more

    async def drop_idle_connections(self) -> None:
        """Resolve the server's address anew: another server may have its place."""
        await drop_idle_connections(self._client)

    async def tails(self, job_ids: Sequence[str]) -> list[EventId | None]:
        """Where each job's log stands, in one round trip; None for a job that is gone."""
        async with self._client.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hmget(self._keys.job(job_id).record, ["epoch", "seq"])
            records = await pipe.execute()
        return [EventId(int(epoch), int(seq)) if epoch else None for epoch, seq in records]
