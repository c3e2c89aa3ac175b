"""Compare recorded jobs with legacy completions, and read them with the official client.

The jobs are those of the chat recordings; `completions/<name>.sse` is the stream for a caller, `.json` the
answer to a caller that does not stream. `python -m tests.golden.test_completion_streams` records them anew:
check the difference before you commit it.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import APIError, OpenAI

from gateway.dialects.completions.stream import TextCompletion, TextOptions, TextStream
from gateway.dialects.errors import body_of
from tests.golden.test_chat_streams import BASE_URL, ERRORS, JOB, events

RECORDINGS = Path(__file__).parent / "completions"
PLAIN = TextOptions(JOB, "fast")
OPTIONS = {
    "awkward_text": TextOptions(JOB, '"text":"","é'),
    "beside_the_delta": TextOptions(JOB, "fast", include_usage=True),
    "early_failure": PLAIN,
    "early_rollback": PLAIN,
    "late_failure": TextOptions(JOB, "fast", include_usage=True),
    "late_rollback": PLAIN,
    "logprobs": PLAIN,
    "plain": PLAIN,
    "reasoning": PLAIN,
    "refusal": PLAIN,
    "silence": PLAIN,
    "two_choices": TextOptions(JOB, "fast", choices=2),
    "usage": TextOptions(JOB, "fast", include_usage=True),
}
SUCCESSES = sorted(OPTIONS.keys() - ERRORS.keys())

every_recording = pytest.mark.parametrize("name", sorted(OPTIONS))
every_success = pytest.mark.parametrize("name", SUCCESSES)


def recorded_stream(name: str) -> bytes:
    return (RECORDINGS / f"{name}.sse").read_bytes()


def recorded_completion(name: str) -> Any:
    return json.loads((RECORDINGS / f"{name}.json").read_bytes())


def streamed(name: str) -> bytes:
    """Build the stream of a recorded job, for a caller that got its headers at once."""
    stream = TextStream(OPTIONS[name])
    frames = b"".join(map(stream.translate, events(name)))
    return frames if stream.shown else frames + stream.failure_frame()


def completed(name: str) -> Any:
    """Build the answer for a caller that does not stream: an HTTP status and a body."""
    completion = TextCompletion(OPTIONS[name])
    for event in events(name):
        completion.accept(event)
    if completion.failure is not None:
        return {"status": completion.failure.status, "body": body_of(completion.failure)}
    return {"status": 200, "body": completion.body()}


def recording(name: str) -> Callable[[httpx2.Request], httpx2.Response]:
    """Yield a server that has one recording."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        assert request.url.path == "/v1/completions"
        if json.loads(request.content).get("stream"):
            return httpx2.Response(200, content=recorded_stream(name), headers={"content-type": "text/event-stream"})
        whole = recorded_completion(name)
        return httpx2.Response(whole["status"], json=whole["body"])

    return answer


def client(name: str) -> OpenAI:
    transport = httpx2.MockTransport(recording(name))
    return OpenAI(api_key="sk-test", base_url=BASE_URL, max_retries=0, http_client=httpx2.Client(transport=transport))


def test_every_recording_is_known() -> None:
    assert {path.stem for path in RECORDINGS.iterdir()} == OPTIONS.keys()


@every_recording
def test_a_recorded_job_gives_the_recorded_stream(name: str) -> None:
    assert streamed(name) == recorded_stream(name)


@every_recording
def test_a_recorded_job_gives_the_recorded_completion(name: str) -> None:
    assert completed(name) == recorded_completion(name)


@every_success
def test_the_official_client_reads_the_completion(name: str) -> None:
    with client(name) as openai:
        completion = openai.completions.create(model="fast", prompt="?")

    assert completion.to_dict() == recorded_completion(name)["body"]


@every_success
def test_the_official_client_reads_the_whole_stream(name: str) -> None:
    with client(name) as openai:
        chunks = list(openai.completions.create(model="fast", prompt="?", stream=True))

    whole = recorded_completion(name)["body"]
    choices = [choice for chunk in chunks for choice in chunk.choices]
    for expected in whole["choices"]:
        mine = [choice for choice in choices if choice.index == expected["index"]]
        assert "".join(choice.text for choice in mine) == expected["text"]
        assert [choice.to_dict()["finish_reason"] for choice in mine][-1] == expected["finish_reason"]
    usages = [chunk.usage.to_dict() for chunk in chunks if chunk.usage]
    assert usages == ([whole["usage"]] if OPTIONS[name].include_usage else [])


@pytest.mark.parametrize("name", sorted(OPTIONS.keys() & ERRORS.keys()))
def test_the_official_client_raises_the_streams_error(name: str) -> None:
    with client(name) as openai, pytest.raises(APIError) as caught:
        list(openai.completions.create(model="fast", prompt="?", stream=True))

    assert caught.value.code == ERRORS[name]
    assert b"[DONE]" not in recorded_stream(name)


if __name__ == "__main__":
    RECORDINGS.mkdir(exist_ok=True)
    for name in OPTIONS:
        (RECORDINGS / f"{name}.sse").write_bytes(streamed(name))
        (RECORDINGS / f"{name}.json").write_text(json.dumps(completed(name), indent=2) + "\n")
