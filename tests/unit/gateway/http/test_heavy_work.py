"""Test large work: it is done beside the event loop, one request's after the other; small work at once."""

import asyncio
import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.requests import Request

from gateway.http.heavy_work import HeavyWork, RequestWork, body_size, note_body_size
from shared.model.bounds import INLINE_BYTES

TIMEOUT_S = 5.0


async def test_small_work_is_done_at_once_in_the_loops_thread() -> None:
    assert await HeavyWork().run(INLINE_BYTES, threading.get_ident) == threading.get_ident()


async def test_large_work_is_done_in_another_thread_with_its_arguments() -> None:
    assert await HeavyWork().run(INLINE_BYTES + 1, threading.get_ident) != threading.get_ident()
    assert await HeavyWork().run(INLINE_BYTES + 1, int, "ff", base=16) == 255


async def test_an_error_of_large_work_is_raised() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        await HeavyWork().run(INLINE_BYTES + 1, int, "x")


async def test_the_loop_goes_on_and_a_second_request_waits() -> None:
    heavy, go, running = HeavyWork(), threading.Event(), threading.Semaphore(1)

    def work() -> bool:
        alone = running.acquire(blocking=False)
        assert go.wait(TIMEOUT_S)
        running.release()
        return alone

    async with asyncio.timeout(TIMEOUT_S):
        both = [asyncio.create_task(heavy.run(INLINE_BYTES + 1, work)) for _ in range(2)]
        await asyncio.sleep(0)  # the loop's own turn comes although the work has not ended
        assert not any(task.done() for task in both)
        go.set()
        assert await asyncio.gather(*both) == [True, True]


async def test_what_was_read_for_a_request_counts_with_its_body() -> None:
    request = cast(Request, SimpleNamespace(state=SimpleNamespace()))
    assert body_size(request) == 0
    note_body_size(request, 10)
    work = RequestWork.of(HeavyWork(), request)

    here: Any = threading.get_ident()
    assert await work.run(threading.get_ident) == here
    work.size += INLINE_BYTES
    assert await work.run(threading.get_ident) != here
