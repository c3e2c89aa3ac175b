"""Compare recorded jobs with their recorded chat streams and completions, and read them with the official client.

`chat/<name>.events` is a job's log as Redis holds it; `.sse` is the stream for a caller of chat completions,
`.json` the answer to a caller that does not stream. `python -m tests.golden.test_chat_streams` records the
last two anew: check the difference before you commit it.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import APIError, APIStatusError, AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionChunk

from gateway.dialects.chat.stream import ChatCompletion, ChatOptions, ChatStream
from gateway.dialects.errors import body_of
from shared.model.events import Event, decode_frame, split_frames

RECORDINGS = Path(__file__).parent / "chat"
JOB = "job_01hf7yat000000000000000005"
PLAIN = ChatOptions(JOB, "fast")
OPTIONS = {
    "awkward_text": ChatOptions(JOB, '","delta":{},"é'),
    "beside_the_delta": ChatOptions(JOB, "fast", include_usage=True),
    "cancelled": PLAIN,
    "early_failure": PLAIN,
    "early_rollback": PLAIN,
    "expired_in_the_queue": PLAIN,
    "late_failure": ChatOptions(JOB, "fast", include_usage=True),
    "late_rollback": PLAIN,
    "logprobs": PLAIN,
    "plain": PLAIN,
    "reasoning": PLAIN,
    "refusal": PLAIN,
    "silence": PLAIN,
    "tool_calls": ChatOptions(JOB, "fast", include_usage=True),
    "two_choices": ChatOptions(JOB, "fast", choices=2),
    "usage": ChatOptions(JOB, "fast", include_usage=True),
    "words_and_call": PLAIN,
}
# Ends of failed streams.
ERRORS = {
    "cancelled": "cancelled",
    "early_failure": "model_not_found",
    "expired_in_the_queue": "deadline_passed",
    "late_failure": "provider_truncated",
    "late_rollback": "rollback",
}
SUCCESSES = sorted(OPTIONS.keys() - ERRORS.keys())
MESSAGES: Any = [{"role": "user", "content": "What is the capital of France?"}]
BASE_URL = "http://tailrace.test/v1"

every_recording = pytest.mark.parametrize("name", sorted(OPTIONS))
every_success = pytest.mark.parametrize("name", SUCCESSES)
every_error = pytest.mark.parametrize(("name", "code"), sorted(ERRORS.items()))


def events(name: str) -> list[Event]:
    return [decode_frame(frame) for frame in split_frames((RECORDINGS / f"{name}.events").read_bytes())]


def recorded_stream(name: str) -> bytes:
    return (RECORDINGS / f"{name}.sse").read_bytes()


def recorded_completion(name: str) -> Any:
    return json.loads((RECORDINGS / f"{name}.json").read_bytes())


def streamed(name: str) -> bytes:
    """Build the stream of a recorded job, for a caller that got its headers at once."""
    stream = ChatStream(OPTIONS[name])
    frames = b"".join(map(stream.translate, events(name)))
    return frames if stream.shown else frames + stream.failure_frame()


def completed(name: str) -> Any:
    """Build the answer for a caller that does not stream: an HTTP status and a body."""
    completion = ChatCompletion(OPTIONS[name])
    for event in events(name):
        completion.accept(event)
    if completion.failure is not None:
        return {"status": completion.failure.status, "body": body_of(completion.failure)}
    return {"status": 200, "body": completion.body()}


def recording(name: str) -> Callable[[httpx2.Request], httpx2.Response]:
    """Yield a server that has one recording."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        if json.loads(request.content).get("stream"):
            return httpx2.Response(200, content=recorded_stream(name), headers={"content-type": "text/event-stream"})
        whole = recorded_completion(name)
        return httpx2.Response(whole["status"], json=whole["body"])

    return answer


def client(name: str) -> OpenAI:
    transport = httpx2.MockTransport(recording(name))
    return OpenAI(api_key="sk-test", base_url=BASE_URL, max_retries=0, http_client=httpx2.Client(transport=transport))


def async_client(name: str) -> AsyncOpenAI:
    transport = httpx2.MockTransport(recording(name))
    return AsyncOpenAI(
        api_key="sk-test",
        base_url=BASE_URL,
        max_retries=0,
        http_client=httpx2.AsyncClient(transport=transport),
    )


def texts(chunks: list[ChatCompletionChunk]) -> dict[int, str]:
    """Join the text of each choice, as a plain loop over the chunks does."""
    found: dict[int, str] = {}
    for choice in (choice for chunk in chunks for choice in chunk.choices):
        found[choice.index] = found.get(choice.index, "") + (choice.delta.content or "")
    return found


def gist(completion: dict[str, Any]) -> dict[str, Any]:
    """Return the fields on which a stream and a completion must agree; for null, a stream may say an empty text."""
    choices = []
    for choice in completion["choices"]:
        message = choice["message"]
        calls = [(call["id"], call["function"]) for call in message.get("tool_calls") or ()]
        for _, function in calls:
            function.pop("parsed_arguments", None)
        said = {name: message.get(name) or None for name in ("role", "content", "reasoning_content", "refusal")}
        logprobs = choice.get("logprobs")
        choices.append((choice["index"], said, calls, logprobs, choice["finish_reason"]))
    return {name: completion[name] for name in ("id", "created", "model")} | {"choices": choices}


def test_every_recording_is_known() -> None:
    assert {path.stem for path in RECORDINGS.iterdir()} == OPTIONS.keys()


@every_recording
def test_a_recorded_job_gives_the_recorded_stream(name: str) -> None:
    assert streamed(name) == recorded_stream(name)


@every_recording
def test_a_recorded_job_gives_the_recorded_completion(name: str) -> None:
    assert completed(name) == recorded_completion(name)


@every_success
def test_the_official_client_reads_the_whole_stream(name: str) -> None:
    with client(name) as openai:
        chunks = list(openai.chat.completions.create(model="fast", messages=MESSAGES, stream=True))

    expected = recorded_completion(name)["body"]
    reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    assert texts(chunks) == {c["index"]: c["message"]["content"] or "" for c in expected["choices"]}
    assert reasons == [choice["finish_reason"] for choice in expected["choices"]]
    usages = [chunk.usage.to_dict() for chunk in chunks if chunk.usage]
    assert usages == ([expected["usage"]] if OPTIONS[name].include_usage else [])


@every_success
async def test_the_official_async_client_reads_the_same(name: str) -> None:
    async with async_client(name) as openai:
        stream = await openai.chat.completions.create(model="fast", messages=MESSAGES, stream=True)
        chunks = [chunk async for chunk in stream]

    with client(name) as same:
        assert chunks == list(same.chat.completions.create(model="fast", messages=MESSAGES, stream=True))


@every_success
def test_the_official_clients_helper_makes_the_completion_of_the_stream(name: str) -> None:
    with (
        client(name) as openai,
        openai.chat.completions.stream(model="fast", messages=MESSAGES) as stream,
    ):
        helped = stream.get_final_completion().to_dict()

    assert gist(helped) == gist(recorded_completion(name)["body"])
    assert (helped["usage"] is not None) == OPTIONS[name].include_usage


@every_success
def test_the_official_client_reads_the_completion(name: str) -> None:
    with client(name) as openai:
        completion = openai.chat.completions.create(model="fast", messages=MESSAGES)

    assert completion.to_dict() == recorded_completion(name)["body"]


@every_error
def test_the_official_client_raises_the_streams_error(name: str, code: str) -> None:
    with client(name) as openai, pytest.raises(APIError) as caught:
        list(openai.chat.completions.create(model="fast", messages=MESSAGES, stream=True))

    assert caught.value.code == code
    assert b"[DONE]" not in recorded_stream(name)


@pytest.mark.parametrize("name", sorted(ERRORS.keys() - {"late_rollback"}))
def test_the_official_client_raises_the_error_of_the_status(name: str) -> None:
    with client(name) as openai, pytest.raises(APIStatusError) as caught:
        openai.chat.completions.create(model="fast", messages=MESSAGES)

    assert (caught.value.status_code, caught.value.code) == (
        recorded_completion(name)["status"],
        ERRORS[name],
    )


def test_a_caller_that_does_not_stream_never_notices_a_rollback() -> None:
    with client("late_rollback") as openai:
        completion = openai.chat.completions.create(model="fast", messages=MESSAGES)

    assert completion.choices[0].message.content == "Paris."


if __name__ == "__main__":
    for name in OPTIONS:
        (RECORDINGS / f"{name}.sse").write_bytes(streamed(name))
        (RECORDINGS / f"{name}.json").write_text(json.dumps(completed(name), indent=2) + "\n")
