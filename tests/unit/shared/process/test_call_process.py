"""Test calls of functions in a child process: the same results as here, errors included, also after the child died."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.specs.validation import read_model
from shared.model.errors import InvalidRequest, Unavailable
from shared.process.call_process import CallProcess
from shared.process.call_server import NICE
from tests.support.processes import gone
from tests.unit.shared.process.child_work import die, die_once, environment, priority

TIMEOUT_S = 20.0


@pytest_asyncio.fixture
async def child() -> AsyncIterator[CallProcess]:
    child = CallProcess()
    async with asyncio.timeout(TIMEOUT_S):
        yield child
        await child.close()


async def test_a_function_is_called_in_one_other_process(child: CallProcess) -> None:
    first, second = await child.call(os.getpid), await child.call(os.getpid)

    assert first == second == child.pid
    assert first != os.getpid()


async def test_a_call_returns_the_result_of_the_function(child: CallProcess) -> None:
    assert await child.call(int, "ff", base=16) == 255
    assert await child.call(bytes.upper, b"x" * 3_000_000) == b"X" * 3_000_000


async def test_a_call_raises_the_error_of_the_function(child: CallProcess) -> None:
    with pytest.raises(InvalidRequest, match="name of a model") as caught:
        await child.call(read_model, {"model": 7})

    assert caught.value.param == "model"


async def test_the_child_has_a_low_priority_and_no_secret(child: CallProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_API_KEYS", "sk-secret:alice")

    assert "TAILRACE_API_KEYS" not in await child.call(environment)
    assert await child.call(priority) == min(priority() + NICE, 19)


async def test_the_child_loads_modules_before_its_first_call() -> None:
    child = CallProcess("gateway.preparation.response")
    try:
        assert await child.call(eval, "'gateway.preparation.response' in __import__('sys').modules")
    finally:
        await child.close()


async def test_a_child_that_was_killed_is_replaced(child: CallProcess) -> None:
    first = await child.call(os.getpid)
    os.kill(first, signal.SIGKILL)

    second = await child.call(os.getpid)
    assert second not in (first, os.getpid())
    await gone([first])


async def test_a_call_is_repeated_if_the_child_dies_meanwhile(child: CallProcess, tmp_path: Path) -> None:
    assert await child.call(die_once, tmp_path / "mark") == "alive"


async def test_a_call_that_kills_each_child_fails_and_the_next_one_does_not(child: CallProcess) -> None:
    with pytest.raises(Unavailable, match="try again"):
        await child.call(die)

    assert await child.call(int, "7") == 7


async def test_a_closed_child_has_ended_and_answers_no_call(child: CallProcess) -> None:
    pid = await child.call(os.getpid)
    await child.close()

    await gone([pid])
    with pytest.raises(Unavailable):
        await child.call(os.getpid)
    assert child.pid is None


async def test_a_call_that_waits_fails_when_the_child_is_closed(child: CallProcess) -> None:
    pid = await child.call(os.getpid)
    os.kill(pid, signal.SIGSTOP)
    waiting = asyncio.create_task(child.call(os.getpid))
    await asyncio.sleep(0)

    await child.close()
    with pytest.raises(Unavailable):
        await waiting
