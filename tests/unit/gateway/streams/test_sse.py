"""Test the event-stream response: its messages, its end, and the detection of a stuck reader."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.types import Message

from gateway.streams.hub import Hub
from gateway.streams.reader import HEARTBEAT, Reader, StreamBroken
from gateway.streams.sse import EventStream
from shared.model.errors import JobNotFound
from shared.model.events import START
from shared.process.clock import SystemClock
from shared.store.client import open_client
from shared.store.keys import Keys
from shared.store.replay_log import ReplayLog

RETRY = re.compile(rb"retry: (\d+)\n\n")


class Script:
    """Return the given steps, one at a time: bytes, or an error to raise."""

    def __init__(self, *steps: bytes | Exception) -> None:
        self._steps = iter(steps)

    async def chunk(self) -> bytes:
        step = next(self._steps, b"")
        if isinstance(step, Exception):
            raise step
        return step


class Caller:
    """Record the messages of the ASGI side; from message `frozen_from` on its socket accepts nothing."""

    def __init__(self, *, frozen_from: int = 10**6) -> None:
        self.sent: list[Message] = []
        self.stuck = asyncio.Event()
        self.left = asyncio.Event()
        self._frozen_from = frozen_from

    async def send(self, message: Message) -> None:
        if len(self.sent) >= self._frozen_from:
            self.stuck.set()
            await asyncio.Event().wait()
        self.sent.append(message)

    async def receive(self) -> Message:
        await self.left.wait()
        return {"type": "http.disconnect"}

    @property
    def bodies(self) -> list[bytes]:
        return [message["body"] for message in self.sent[1:]]

    @property
    def complete(self) -> bool:
        return bool(self.sent) and not self.sent[-1].get("more_body", True)


@asynccontextmanager
async def a_reader() -> AsyncIterator[Reader]:
    """Yield a reader of a hub that never runs."""
    client, keys, clock = open_client("redis://127.0.0.1:1"), Keys(), SystemClock()
    times: dict[str, Any] = dict.fromkeys(("heartbeat_s", "tail_check_s", "redis_patience_s", "send_timeout_s"), 60.0)
    hub = Hub(client, ReplayLog(client, keys), keys, clock, reader_bytes=1000, **times)
    async with hub.reader("job", START) as reader:
        yield reader


def is_suspected(reader: Reader) -> bool:
    """Return whether a send to this reader is under way, so that the hub's timer checks how long it takes."""
    return reader.sending_since is not None


async def stream(caller: Caller, *steps: bytes | Exception, **options: Any) -> Reader:
    """Serve these steps to a caller; return the reader afterwards."""
    async with a_reader() as reader:
        response = EventStream(Script(*steps), reader, SystemClock(), headers={"X-Job": "j"}, **options)
        await response({"type": "http"}, caller.receive, caller.send)
    return reader


async def test_a_stream_is_headers_then_bytes_as_they_come_then_a_proper_end() -> None:
    caller = Caller()
    await stream(caller, b"one", HEARTBEAT, b"two")
    assert caller.sent[0]["status"] == 200
    assert caller.bodies == [b"one", HEARTBEAT, b"two", b""]
    assert caller.complete


async def test_a_lot_is_sent_in_pieces_so_that_a_slow_reader_is_not_taken_for_a_frozen_one() -> None:
    caller, lot = Caller(), bytes(range(250)) * 1000
    await stream(caller, lot)
    assert b"".join(caller.bodies) == lot
    assert max(map(len, caller.bodies)) == 65_536


async def test_the_headers_are_exactly_those_of_a_stream() -> None:
    caller = Caller()
    await stream(caller)
    assert caller.sent[0]["headers"] == [
        (b"content-type", b"text/event-stream"),
        (b"cache-control", b"no-cache, no-transform"),
        (b"x-accel-buffering", b"no"),
        (b"x-content-type-options", b"nosniff"),
        (b"x-job", b"j"),
    ]


async def test_bytes_known_beforehand_go_out_first() -> None:
    caller = Caller()
    await stream(caller, b"two", first=b"one")
    assert caller.bodies == [b"one", b"two", b""]


@pytest.mark.parametrize("error", [StreamBroken("We close."), JobNotFound("It is gone.")])
async def test_a_broken_stream_has_no_proper_end(error: Exception) -> None:
    caller = Caller()
    await stream(caller, b"one", error)
    assert caller.bodies == [b"one"]
    assert not caller.complete


async def test_a_native_reader_gets_a_time_to_retry_before_its_stream_is_broken() -> None:
    waits = set()
    for _ in range(20):
        caller = Caller()
        await stream(caller, StreamBroken("We close."), announce_break=True)
        (last_chunk,) = caller.bodies
        assert not caller.complete
        match = RETRY.fullmatch(last_chunk)
        assert match
        waits.add(int(match[1]))
    assert len(waits) > 1, "all of them would come back at once"
    assert all(500 <= wait <= 3000 for wait in waits)


async def test_a_reader_that_has_left_is_sent_nothing_more() -> None:
    async with a_reader() as reader:
        caller = Caller()
        reader.leave()
        await EventStream(Script(b"one"), reader, SystemClock(), headers={}, announce_break=True).stream(caller.send)
        assert not caller.complete


async def test_the_reader_learns_that_its_client_left() -> None:
    async with a_reader() as reader:
        caller = Caller()

        class UntilGone:
            async def chunk(self) -> bytes:
                caller.left.set()
                return await reader.chunk()

        response = EventStream(UntilGone(), reader, SystemClock(), headers={})
        async with asyncio.timeout(5):
            await response({"type": "http"}, caller.receive, caller.send)
        assert reader.gone
        assert not caller.complete


@pytest.mark.parametrize(
    ("frozen_from", "steps"),
    [
        pytest.param(0, (b"one",), id="at the headers"),
        pytest.param(2, (b"one", b"two"), id="at a frame"),
        pytest.param(2, (b"one",), id="at the end"),
        pytest.param(2, (b"one", StreamBroken("We close.")), id="at the last_chunk"),
    ],
)
async def test_a_reader_with_a_blocked_socket_can_be_broken_off(
    frozen_from: int, steps: tuple[bytes | Exception, ...]
) -> None:
    caller = Caller(frozen_from=frozen_from)
    async with a_reader() as reader:
        response = EventStream(Script(*steps), reader, SystemClock(), headers={}, announce_break=True)
        task = asyncio.create_task(response.stream(caller.send))
        async with asyncio.timeout(5):
            await caller.stuck.wait()
            assert is_suspected(reader)
            assert reader.timeout is not None
            reader.timeout.reschedule(0)
            await task
        assert not is_suspected(reader)
        assert not caller.complete


async def test_the_socket_of_a_stream_without_data_to_send_is_not_suspected() -> None:
    async with a_reader() as reader:

        class Tripwire:
            async def chunk(self) -> bytes:
                assert not is_suspected(reader)
                return b""

        await EventStream(Tripwire(), reader, SystemClock(), headers={}).stream(Caller().send)
        assert not is_suspected(reader)


async def test_a_stream_that_is_cancelled_leaves_no_suspicion_behind() -> None:
    caller = Caller(frozen_from=1)
    async with a_reader() as reader:
        response = EventStream(Script(b"one"), reader, SystemClock(), headers={})
        task = asyncio.create_task(response.stream(caller.send))
        async with asyncio.timeout(5):
            await caller.stuck.wait()
        task.cancel()
        await asyncio.wait([task])
        assert not is_suspected(reader)
