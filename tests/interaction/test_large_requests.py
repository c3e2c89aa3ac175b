"""Bound large requests: the event loop's share of the work does not grow with them, and their references are few."""

import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from shared.config.settings import Settings
from tests.support.client import Client
from tests.support.gateway import Gateway
from tests.support.log_writer import JobSide
from tests.support.responses_api import BACKGROUND, RESPONSES, answered, id_of

KIB = 1024
Make = Callable[[int], Any]


def call(number: int) -> list[Any]:
    """Return a function's call and its result."""
    return [
        {"type": "function_call", "call_id": f"c{number}", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": f"c{number}", "output": ""},
    ]


def chat(messages: list[Any], **fields: Any) -> dict[str, Any]:
    return {"model": "mock", "messages": messages, **fields}


def response(items: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "mock", "background": True, "input": items, **fields}


def page(*messages: Any) -> dict[str, Any]:
    return {"id": "c", "model": "mock", "messages": [*messages, said("z", "a")]}


def said(name: str, text: str) -> dict[str, Any]:
    return {"id": name, "role": "user", "parts": [{"type": "text", "text": text}]}


USER = {"role": "user", "content": "a"}
# Path, and the body with so many parts; each body of 1,000 parts is over 32 KiB.
BODIES: dict[str, tuple[str, Make]] = {
    "a job's messages": ("/v1/jobs", lambda n: chat([{"role": "user", "content": ""}] * n)),
    "unknown fields": ("/v1/jobs", lambda n: chat([USER], **{f"a_field_that_nobody_knows_{i}": 1 for i in range(n)})),
    "empty lists": ("/v1/jobs", lambda n: chat([USER], x=[[[[]], [[]], [[]], [[]], [[]], [[]], [[]]]] * n)),
    "a job's inputs": ("/v1/jobs", lambda n: {"kind": "embeddings", "model": "mock", "input": ["a" * 40] * n}),
    "functions": ("/v1/jobs", lambda n: chat([USER], functions=[{"name": "a_function_with_a_long_name"}] * n)),
    "tools": ("/v1/jobs", lambda n: chat([USER], tools=[{"type": "function", "function": {"name": "f"}}] * n)),
    "biases": ("/v1/jobs", lambda n: chat([USER], logit_bias={f"a token's name, number {i}": 0 for i in range(n)})),
    "bad messages": ("/v1/chat/completions", lambda n: chat([*([USER] * n), {"role": "a", "content": ""}])),
    "a bad prompt": ("/v1/completions", lambda n: {"model": "mock", "prompt": ["a" * 40] * n}),
    "bad inputs": ("/v1/embeddings", lambda n: {"model": "mock", "input": [*(["a" * 40] * n), ""]}),
    "calls and results": ("/v1/responses", lambda n: response([item for i in range(n) for item in call(i)])),
    "items": ("/v1/responses", lambda n: response([{"role": "user", "content": ""}] * n)),
    "parts": ("/v1/responses", lambda n: response([{**USER, "content": [{"type": "input_text", "text": ""}] * n}])),
    "too many tools": (
        "/v1/responses",
        lambda n: response("a", tools=[{"type": "function", "name": "f"}] * (n + 1100)),
    ),
    "a bad page": ("/api/chat", lambda n: page(*([said("a", "a")] * n), {"id": "b", "role": "user", "parts": []})),
    "a stop's body": ("/api/chat/c/stop", lambda n: {"x": [[[[]], [[]], [[]], [[]], [[]], [[]], [[]]]] * n}),
}


@contextmanager
def counted_steps() -> Iterator[list[int]]:
    """Count the functions that this thread, the event loop's, calls in this block."""
    steps = [0]

    def count(*_: Any) -> None:
        steps[0] += 1

    sys.setprofile(count)
    try:
        yield steps
    finally:
        sys.setprofile(None)


async def steps_of(client: Client, path: str, body: Any) -> tuple[int, int]:
    """Return how many steps the event loop makes for a request, and the answer's status."""
    raw = json.dumps(body).encode()
    assert len(raw) > 32 * KIB, "small requests are the loop's own"
    with counted_steps() as steps:
        answer = await client.request("POST", path, body=raw)
    return steps[0], answer.status


@pytest.mark.parametrize("name", BODIES)
async def test_the_event_loops_steps_do_not_grow_with_a_request(client: Client, name: str) -> None:
    path, make = BODIES[name]
    small, _ = await steps_of(client, path, make(1_000))
    small, before = await steps_of(client, path, make(1_000))
    # Other work of the loop adds steps, more of them on a busy machine: the least of ten counts.
    large = sys.maxsize
    for _ in range(10):
        steps, after = await steps_of(client, path, make(4_000))
        assert before == after
        large = min(large, steps)
        # One read from a socket takes steps, too: a few hundred for each 64 KiB.
        if large - small < 2_000:
            return
    pytest.fail(f"{(large - small) / 3_000:.1f} steps for each part")


# The references of a request.


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Make settings under which a request is read again after its end, and a body is small."""
    return settings.model_copy(update={"retention_s": 3600.0, "max_body_bytes": 1024 * KIB})


class Reads:
    """Counts the bytes of logs that a gateway reads."""

    def __init__(self, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bytes = 0
        frames = gateway.services.hub.replay_log.frames

        async def counted(job_id: str) -> AsyncIterator[bytes]:
            async for frame in frames(job_id):
                self.bytes += len(frame)
                yield frame

        monkeypatch.setattr(gateway.services.hub.replay_log, "frames", counted)


@pytest.fixture
def reads(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(gateway, monkeypatch)


@pytest.fixture
def bound(gateway: Gateway) -> int:
    """Return the largest body, in bytes, from now on: answers may be larger than it."""
    most = 40 * KIB
    gateway.services.settings = gateway.services.settings.model_copy(update={"max_body_bytes": most})
    return most


def too_long(param: str, most: int) -> tuple[int, str, str]:
    return 400, param, f"{param} must refer to a conversation of at most {most} bytes."


async def refused(client: Client, **fields: Any) -> tuple[int, str, str]:
    """Return a refusal's status, field and sentence."""
    answer = await client.post(RESPONSES, {**BACKGROUND, **fields})
    error = answer.json()["error"]
    return answer.status, error["param"], error["message"]


def reference(name: str) -> dict[str, str]:
    return {"type": "item_reference", "id": name.replace("resp_", "msg_") + "_0"}


async def test_references_are_read_up_to_the_size_of_a_body(
    client: Client, writing: JobSide, bound: int, reads: Reads
) -> None:
    jobs = [id_of(await answered(client, writing, *["x" * KIB] * 20)) for _ in range(4)]

    assert await refused(client, input=[reference(each) for each in jobs]) == too_long("input", bound)
    assert reads.bytes < bound + 4 * KIB


async def test_an_item_counts_as_often_as_it_is_referred_to(client: Client, writing: JobSide, bound: int) -> None:
    name = id_of(await answered(client, writing, "x" * 10 * KIB))

    assert (await client.post(RESPONSES, {**BACKGROUND, "input": [reference(name)] * 3})).status == 200
    assert await refused(client, input=[reference(name)] * 100) == too_long("input", bound)


async def test_a_previous_response_is_read_up_to_the_size_of_a_body(
    client: Client, writing: JobSide, bound: int, reads: Reads
) -> None:
    name = id_of(await answered(client, writing, *["x" * KIB] * 100))

    assert await refused(client, previous_response_id=name) == too_long("previous_response_id", bound)
    assert reads.bytes < bound + 4 * KIB


async def test_the_state_of_an_answer_is_read_up_to_the_size_of_a_body(
    client: Client, writing: JobSide, bound: int, reads: Reads
) -> None:
    fragment = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    thoughts = [{"reasoning_content": "x" * KIB}] * 100
    name = id_of(await answered(client, writing, *thoughts, {"tool_calls": [fragment]}))
    item = {"type": "function_call", "id": name.replace("resp_", "fc_") + "_1", "call_id": "c1"}

    items = [USER, {**item, "name": "f", "arguments": "{}"}, call(1)[1]]
    assert (await client.post(RESPONSES, {**BACKGROUND, "input": items})).status == 200
    assert reads.bytes < bound + 4 * KIB


async def test_a_conversation_that_is_kept_here_is_read_up_to_the_size_of_a_body(
    client: Client, writing: JobSide, bound: int, reads: Reads
) -> None:
    first = {"id": "c", "model": "mock", "message": said("a", "Hello?")}
    async with client.calling("/api/chat", first) as answering:
        writer = await writing.take()
        await writer.say(*["x" * KIB] * 100)
        await writer.complete()
        await answering.read_head()
        await answering.rest()
    reads.bytes = 0

    answer = await client.post("/api/chat", {"id": "c", "model": "mock", "message": said("b", "And?")})

    assert answer.status == 413
    assert reads.bytes < bound + 4 * KIB
