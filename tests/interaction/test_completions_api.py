"""`/v1/completions` byte by byte: a prompt becomes a chat job, and a caller that leaves takes the job along. Headers
and failures are as for chats (test_chat_failures.py)."""

import json
from typing import Any

import pytest

from shared.config.settings import Settings
from shared.model.errors import ProviderRefused
from tests.support.client import Client
from tests.support.controlled_provider import ControlledProvider
from tests.support.log_writer import JobSide
from tests.support.system import running_system, running_worker

COMPLETIONS = "/v1/completions"
BODY: dict[str, Any] = {"model": "scripted", "prompt": "Hello?", "max_tokens": 9}
STREAM = {**BODY, "stream": True}
DONE = b"data: [DONE]\n\n"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Headers are held for longer than any test takes."""
    return settings.model_copy(update={"headers_hold_s": 60.0, "heartbeat_s": 60.0})


def choice_of(frame: bytes) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(frame.removeprefix(b"data: ").partition(b"\n")[0])
    (choice,) = data["choices"]
    return dict(choice)


async def test_the_prompt_is_asked_as_a_chat(client: Client, writing: JobSide) -> None:
    async with client.calling(COMPLETIONS, {**BODY, "logprobs": 2, "best_of": 1}) as call:
        writer = await writing.take()
        assert await writing.store.request(writer.job_id) == {
            "model": "scripted",
            "max_tokens": 9,
            "messages": [{"role": "user", "content": "Hello?"}],
            "logprobs": True,
            "top_logprobs": 2,
        }
        await writer.say("Hello", " there")
        await writer.complete()
        await call.read_head()
        answer = await call.whole()

    assert (answer.status, answer.headers["x-tailrace-job"]) == (200, writer.job_id)
    body = answer.json()
    assert (body["object"], body["id"]) == ("text_completion", "cmpl-" + writer.job_id.removeprefix("job_"))
    assert body["choices"] == [{"text": "Hello there", "index": 0, "logprobs": None, "finish_reason": "stop"}]


async def test_a_stream_can_be_read_again_from_any_chunk_and_in_the_other_dialect(
    client: Client, writing: JobSide
) -> None:
    async with client.calling(COMPLETIONS, {**STREAM, "stream_options": {"include_usage": True}}) as call:
        writer = await writing.take()
        await writer.say("Hello", {"reasoning_content": "hm"}, " there")
        await writer.complete("length")
        await call.read_head()
        assert call.headers["content-type"] == "text/event-stream"
        frames = [await call.frame() for _ in range(5)]

    assert [choice_of(frame)["text"] for frame in frames[:3]] == ["Hello", " there", ""]
    assert choice_of(frames[2])["finish_reason"] == "length"
    assert json.loads(frames[3].removeprefix(b"data: ").partition(b"\n")[0])["usage"]["total_tokens"] == 4
    assert frames[4] == DONE
    cursor = frames[0].rpartition(b"\nid: ")[2].decode().strip()
    name = writer.job_id.replace("job_", "cmpl-")
    for each in (name, writer.job_id):
        async with client.stream("GET", f"{COMPLETIONS}/{each}?stream=true&starting_after={cursor}") as rest:
            assert await rest.rest() == b"".join(frames[1:])
    whole = (await client.get(f"{COMPLETIONS}/{name}")).json()
    assert whole["choices"][0]["text"] == "Hello there"
    chat = (await client.get(f"/v1/chat/completions/{writer.job_id}")).json()
    assert chat["choices"][0]["message"]["content"] == "Hello there"


async def test_an_answer_that_is_not_there_is_called_a_completion(client: Client) -> None:
    answer = await client.get(f"{COMPLETIONS}/cmpl-nothing")

    assert answer.status == 404
    assert answer.json()["error"]["message"] == "There is no completion cmpl-nothing."


async def test_a_failure_is_a_status_with_openais_envelope(client: Client, writing: JobSide) -> None:
    async with client.calling(COMPLETIONS, STREAM) as call:
        writer = await writing.take()
        await writer.fail(ProviderRefused("Too long.", code="context_length_exceeded"))
        await call.read_head()
        answer = await call.whole()

    assert answer.status == 400
    assert answer.json() == {
        "error": {
            "message": "Too long.",
            "type": "invalid_request_error",
            "param": None,
            "code": "context_length_exceeded",
        }
    }


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"n": 0}, "n"),
        ({"stream": "yes"}, "stream"),
        ({"echo": True}, "echo"),
        ({"model": ""}, "model"),
    ],
    ids=str,
)
async def test_a_field_that_is_wrong_is_named_and_makes_no_job(
    client: Client, wrong: dict[str, Any], param: str
) -> None:
    answer = await client.post(COMPLETIONS, {**BODY, **wrong})

    assert (answer.status, answer.json()["error"]["param"]) == (400, param)
    assert (await client.get("/v1/jobs")).json()["data"] == []


async def test_a_repeated_call_gets_the_answer_of_the_same_job(client: Client, writing: JobSide) -> None:
    key = {"Idempotency-Key": "k"}
    async with client.calling(COMPLETIONS, STREAM, headers=key) as call:
        writer = await writing.take()
        await writer.say("Hello")
        await call.read_head()
        async with client.calling(COMPLETIONS, STREAM, headers=key) as again:
            await writer.complete()
            await again.read_head()
            assert again.headers["x-tailrace-job"] == writer.job_id
            assert choice_of(await again.frame())["text"] == "Hello"
    other = await client.post(COMPLETIONS, {**STREAM, "prompt": "Other?"}, headers=key)
    assert (other.status, other.json()["error"]["param"]) == (422, "Idempotency-Key")
    chat = {"model": "scripted", "stream": True, "messages": [{"role": "user", "content": "Hello?"}], "max_tokens": 9}
    assert (await client.post("/v1/chat/completions", chat, headers=key)).status == 422


async def test_a_job_is_cancelled_if_its_caller_disconnects(settings: Settings) -> None:
    provider = ControlledProvider()
    async with (
        running_system(settings) as system,
        running_worker(settings, provider),
        system.client.calling(COMPLETIONS, STREAM) as call,
    ):
        asked = await provider.call()
        asked.say("Hello")
        await call.read_head()
        await call.frame()
        call.close()
        await asked.until_closed()
        story = await system.story(call.headers["x-tailrace-job"])

    assert (story.types[-1], story.code, story.text) == ("cancelled", "abandoned", "Hello")
