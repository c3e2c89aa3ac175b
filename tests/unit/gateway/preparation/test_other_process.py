"""Test that each preparation gives the same in another process as here: result or error."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest
import pytest_asyncio

from gateway.preparation.completion import prepare_chat, prepare_text
from gateway.preparation.embeddings import prepare_embeddings
from gateway.preparation.job import prepare_job
from gateway.preparation.request_head import RequestHead
from gateway.preparation.response import prepare_response
from gateway.preparation.task import prepare_task
from gateway.preparation.ui_chat import prepare_turn
from shared.model.errors import RequestError
from shared.model.kinds import CHAT
from shared.process.call_process import CallProcess
from tests.support.heads import head

TIMEOUT_S = 20.0
MESSAGES = [{"role": "user", "content": "東京 🌊 " * 9_000}]
Prepare = Callable[[bytes, RequestHead], object]
GOOD: dict[Prepare, dict[str, Any]] = {
    prepare_job: {"messages": MESSAGES, "metadata": {"a": "b"}, "abandon_after_s": 5},
    prepare_chat: {"messages": MESSAGES, "stream": True},
    prepare_text: {"prompt": "x" * 90_000},
    prepare_embeddings: {"input": ["A river."] * 2_000},
    partial(prepare_task, kind=CHAT): {"messages": MESSAGES},
    partial(prepare_response, most=1_000_000, found=[]): {"input": MESSAGES, "tools": [{"type": "web_search"}]},
    partial(prepare_turn, model="m", former=None): {
        "id": "c",
        "messages": [{"id": "a", "role": "user", "parts": [{"type": "text", "text": "x" * 90_000}]}],
    },
}


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def child() -> AsyncIterator[CallProcess]:
    child = CallProcess()
    yield child
    async with asyncio.timeout(TIMEOUT_S):
        await child.close()


@pytest.mark.parametrize("prepare", GOOD)
async def test_a_result_is_the_same(child: CallProcess, prepare: Prepare) -> None:
    raw = json.dumps({"model": "m", **GOOD[prepare]}).encode()

    assert await child.call(prepare, raw, head()) == prepare(raw, head())


@pytest.mark.parametrize("prepare", GOOD)
@pytest.mark.parametrize(
    "bad", [b'{"a":' + b"[" * 200_000, b"{}", b'{"model": "m", "stream": 7, "encoding_format": 1}']
)
async def test_an_error_is_the_same(child: CallProcess, prepare: Prepare, bad: bytes) -> None:
    with pytest.raises(RequestError) as there:
        await child.call(prepare, bad, head())
    with pytest.raises(RequestError) as here:
        prepare(bad, head())

    assert type(there.value) is type(here.value)
    assert (str(there.value), there.value.param) == (str(here.value), here.value.param)


LOADED = "{name.partition('.')[0] for name in __import__('sys').modules}"


async def test_a_process_that_prepares_loads_no_server_and_no_client(child: CallProcess) -> None:
    await child.call(prepare_chat, json.dumps({"model": "m", **GOOD[prepare_chat]}).encode(), head())

    assert not {"starlette", "uvicorn", "redis", "arq", "structlog", "anyio"} & await child.call(eval, LOADED)
