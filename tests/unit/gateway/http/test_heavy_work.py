"""Test large work: another process does it, by turns of the tenants; small work is done at once."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from gateway.http.heavy_work import HeavyWork, Requester, RequestWork
from gateway.http.protocol import HALF_CLOSED
from shared.model.bounds import INLINE_BYTES
from shared.model.errors import TooManyLargeRequests
from shared.model.metrics import Metrics

TIMEOUT_S = 20.0
LARGE = INLINE_BYTES + 1


def requester(tenant: str = "alice", *, left: bool = False, half_closed: bool = False) -> Requester:
    """Build the sender of a request, which may have left, or have closed its side."""

    async def receive() -> Message:
        if not left:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    scope: dict[str, Any] = {"type": "http", "method": "POST", "headers": []}
    return Requester(tenant, Request(scope | ({HALF_CLOSED: True} if half_closed else {}), receive))


ALICE, BOB = requester(), requester("bob")


@pytest_asyncio.fixture
async def heavy() -> AsyncIterator[HeavyWork]:
    heavy = HeavyWork()
    async with asyncio.timeout(TIMEOUT_S):
        yield heavy
        await heavy.close()


async def test_small_work_is_done_at_once_in_the_loops_thread(heavy: HeavyWork) -> None:
    assert await heavy.run(ALICE, INLINE_BYTES, threading.get_ident) == threading.get_ident()
    assert await heavy.run_here(INLINE_BYTES, threading.get_ident) == threading.get_ident()
    assert heavy.pid is None


async def test_large_work_is_done_in_another_process_with_its_arguments(heavy: HeavyWork) -> None:
    pid = await heavy.run(ALICE, LARGE, os.getpid)

    assert pid == heavy.pid != os.getpid()
    assert await heavy.run(BOB, LARGE, int, "ff", base=16) == 255


async def test_large_work_on_data_of_this_process_is_done_in_another_thread(heavy: HeavyWork) -> None:
    assert await heavy.run_here(LARGE, threading.get_ident) != threading.get_ident()
    assert await heavy.run_here(LARGE, os.getpid) == os.getpid()
    with pytest.raises(ValueError, match="invalid literal"):
        await heavy.run_here(LARGE, int, "x")


async def test_tenants_take_turns_and_a_tenant_with_too_many_requests_is_refused() -> None:
    metrics = Metrics()
    heavy, done = HeavyWork(metrics, most_waiting=2), []

    async def work(by: Requester, name: str) -> None:
        done.append(await heavy.run(by, LARGE, str, name))

    names = ((BOB, "b1"), (BOB, "b2"), (BOB, "b3"), (ALICE, "a1"))
    tasks = [asyncio.create_task(work(by, name)) for by, name in names]
    await asyncio.sleep(0)
    with pytest.raises(TooManyLargeRequests):
        await work(BOB, "b4")
    async with asyncio.timeout(TIMEOUT_S):
        await asyncio.gather(*tasks)
        await heavy.close()

    assert done == ["b1", "b2", "a1", "b3"]
    assert metrics.refused.of("large_requests").value == 1


async def test_work_for_a_client_that_has_left_is_not_done(heavy: HeavyWork) -> None:
    with pytest.raises(ClientDisconnect):
        await heavy.run(requester(left=True), LARGE, os.getpid)
    assert heavy.pid is None


async def test_work_for_a_client_that_only_sends_nothing_more_is_done(heavy: HeavyWork) -> None:
    assert await heavy.run(requester(left=True, half_closed=True), LARGE, int, "7") == 7


async def test_bytes_that_were_read_for_a_request_count_with_its_body(heavy: HeavyWork) -> None:
    work = RequestWork(heavy, ALICE, 10)

    assert await work.run(os.getpid) == os.getpid()
    work.size += INLINE_BYTES
    assert await work.run(os.getpid) != os.getpid()
    assert await work.run_here(threading.get_ident) != threading.get_ident()
