"""Compare recorded jobs with recorded response streams and responses, and read them with the official client.

The jobs are those of the chat recordings, and in `responses/<name>.events` those that matter only to this dialect.
`responses/<name>.sse` is the stream for a reader of the response, `.json` the response, retrieved at the end.
`python -m tests.golden.test_response_streams` records both anew: check the difference before you commit it.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import APIError, AsyncOpenAI, OpenAI
from openai.types.responses import Response
from openai.types.responses import ResponseStreamEvent as ResponseEvent
from pydantic import TypeAdapter

from gateway.dialects.responses.object import ResponseOptions
from gateway.dialects.responses.stream import ALL, ResponseStream, WholeResponse
from shared.model.events import Event, decode_frame, encode_data, split_frames

HERE = Path(__file__).parent
RECORDINGS = HERE / "responses"
JOB = "job_01hf7yat000000000000000005"
ID = "resp_01hf7yat000000000000000005"
PLAIN = ResponseOptions(JOB, "fast")
TOOLS = [{"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": True}]
ASKED = {"instructions": "Be brief.", "tools": TOOLS, "temperature": 0.5, "store": True, "top_logprobs": 1}
AGENT_TOOLS = [
    {"type": "custom", "name": "apply_patch", "description": "Change files."},
    {
        "type": "namespace",
        "name": "agents",
        "description": "Other agents.",
        "tools": [{"type": "function", "name": "spawn", "parameters": {"type": "object"}, "strict": False}],
    },
    {"type": "web_search"},
]
AGENT = {"tools": AGENT_TOOLS, "reasoning": {"effort": "low", "summary": "auto"}, "service_tier": "auto"}
BACKGROUND = ResponseOptions(JOB, "fast", background=True, metadata={"page": "7"}, asked=ASKED)
OPTIONS = {
    "agent_tools": ResponseOptions(JOB, "fast", asked=AGENT),
    "awkward_text": ResponseOptions(JOB, '","delta":"é'),
    "beside_the_delta": PLAIN,
    "cancelled": BACKGROUND,
    "citations": PLAIN,
    "early_failure": PLAIN,
    "early_rollback": BACKGROUND,
    "expired_in_the_queue": BACKGROUND,
    "late_failure": PLAIN,
    "late_rollback": BACKGROUND,
    "length": PLAIN,
    "logprobs": PLAIN,
    "parts_in_turns": PLAIN,
    "plain": PLAIN,
    "reasoning": PLAIN,
    "refusal": PLAIN,
    "silence": BACKGROUND,
    "summary": ResponseOptions(JOB, "fast", asked={"reasoning": {"summary": "detailed"}}),
    "tool_calls": BACKGROUND,
    "two_choices": PLAIN,
    "usage": PLAIN,
    "words_and_call": PLAIN,
}
# Ends of streams without `response.completed`.
ENDS = {
    "cancelled": "response.incomplete",
    "early_failure": "response.failed",
    "expired_in_the_queue": "response.failed",
    "late_failure": "response.failed",
    "late_rollback": "error",
    "length": "response.incomplete",
}
SUCCESSES = sorted(OPTIONS.keys() - ENDS.keys())
TOLD = sorted(OPTIONS.keys() - {"late_rollback"})

every_recording = pytest.mark.parametrize("name", sorted(OPTIONS))
every_told_end = pytest.mark.parametrize("name", TOLD)
every_success = pytest.mark.parametrize("name", SUCCESSES)


def events(name: str) -> list[Event]:
    path = RECORDINGS / f"{name}.events"
    path = path if path.exists() else HERE / "chat" / f"{name}.events"
    return [decode_frame(frame) for frame in split_frames(path.read_bytes())]


def recorded_stream(name: str) -> bytes:
    return (RECORDINGS / f"{name}.sse").read_bytes()


def recorded_response(name: str) -> Any:
    return json.loads((RECORDINGS / f"{name}.json").read_bytes())


def streamed(name: str, after: int = ALL) -> bytes:
    return b"".join(map(ResponseStream(OPTIONS[name], after).translate, events(name)))


def retrieved(name: str) -> dict[str, Any]:
    whole = WholeResponse(OPTIONS[name])
    for event in events(name):
        whole.accept(event)
    return whole.body()


def frames(stream: bytes) -> list[tuple[str, dict[str, Any]]]:
    """Parse name and data of each frame."""
    found = []
    for frame in stream.split(b"\n\n")[:-1]:
        head, data = frame.split(b"\n")
        found.append((head.removeprefix(b"event: ").decode(), json.loads(data.removeprefix(b"data: "))))
    return found


def recording(name: str) -> Callable[[httpx2.Request], httpx2.Response]:
    """Yield a server that has one recording."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.method == "POST" or request.url.params.get("stream") == "true":
            return httpx2.Response(200, content=recorded_stream(name), headers={"content-type": "text/event-stream"})
        return httpx2.Response(200, json=recorded_response(name))

    return answer


def client(name: str) -> OpenAI:
    transport = httpx2.MockTransport(recording(name))
    return OpenAI(
        api_key="sk-test", base_url="http://t/v1", max_retries=0, http_client=httpx2.Client(transport=transport)
    )


def async_client(name: str) -> AsyncOpenAI:
    transport = httpx2.MockTransport(recording(name))
    http = httpx2.AsyncClient(transport=transport)
    return AsyncOpenAI(api_key="sk-test", base_url="http://t/v1", max_retries=0, http_client=http)


def gist(output: list[dict[str, Any]]) -> list[Any]:
    """Return the content of an output, without the additions of the client's helper."""
    said: list[Any] = []
    for item in output:
        content = [(part["type"], part.get("text", part.get("refusal"))) for part in item.get("content") or ()]
        fields = [item.get(name) for name in ("summary", "name", "namespace", "arguments", "input", "extra_content")]
        said.append((item["type"], item["id"], item["status"], content, fields))
    return said


def test_every_recording_is_known() -> None:
    assert {path.stem for path in RECORDINGS.iterdir()} == OPTIONS.keys()
    assert {path.stem for path in (HERE / "chat").iterdir()} <= OPTIONS.keys()


@every_recording
def test_a_recorded_job_gives_the_recorded_stream(name: str) -> None:
    assert streamed(name) == recorded_stream(name)


@every_recording
def test_a_recorded_job_gives_the_recorded_response(name: str) -> None:
    assert retrieved(name) == recorded_response(name)


@every_recording
def test_events_are_numbered_from_0_and_named_twice_alike(name: str) -> None:
    read = frames(recorded_stream(name))

    assert [data["sequence_number"] for _, data in read] == list(range(len(read)))
    assert [head for head, _ in read] == [data["type"] for _, data in read]
    assert read[0][0] == "response.created"
    assert read[0][1]["response"]["output"] == []
    assert read[-1][0] == ENDS.get(name, "response.completed")


@every_recording
def test_a_stream_cut_after_any_event_continues_with_exactly_the_rest(name: str) -> None:
    whole = recorded_stream(name).split(b"\n\n")[:-1]

    for cut in range(len(whole) + 2):
        assert streamed(name, after=cut).split(b"\n\n")[:-1] == whole[cut + 1 :]


@every_told_end
def test_a_stream_ends_with_the_response_as_it_is_retrieved(name: str) -> None:
    assert frames(recorded_stream(name))[-1][1]["response"] == recorded_response(name)


@every_recording
def test_each_event_and_response_has_the_official_clients_types(name: str) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(ResponseEvent)

    Response.model_validate(recorded_response(name), strict=True)
    for head, data in frames(recorded_stream(name)):
        event = adapter.validate_json(encode_data(data))
        assert event.type == head
        assert not event.model_extra or head == "error"


@every_success
def test_the_official_clients_helper_makes_the_response_of_the_stream(name: str) -> None:
    with client(name) as openai, openai.responses.stream(model="fast", input="?") as stream:
        helped = stream.get_final_response().to_dict()

    expected = recorded_response(name)
    assert gist(helped["output"]) == gist(expected["output"])  # type: ignore[arg-type]
    assert helped["usage"] == expected["usage"]


@every_told_end
async def test_the_official_async_client_reads_the_whole_stream(name: str) -> None:
    async with async_client(name) as openai:
        stream = await openai.responses.create(model="fast", input="?", stream=True)
        types = [event.type async for event in stream]

    assert types == [head for head, _ in frames(recorded_stream(name))]


@every_recording
def test_the_official_client_reads_the_response(name: str) -> None:
    with client(name) as openai:
        response = openai.responses.retrieve(ID)

    assert response.to_dict() == recorded_response(name)


def test_the_official_client_raises_the_error_of_a_late_rollback() -> None:
    with client("late_rollback") as openai, pytest.raises(APIError) as caught:
        list(openai.responses.create(model="fast", input="?", stream=True))

    assert caught.value.code == "rollback"


def test_a_retrieved_response_never_shows_a_rollback() -> None:
    with client("late_rollback") as openai:
        response = openai.responses.retrieve(ID)

    assert (response.status, response.output_text) == ("completed", "Paris.")


if __name__ == "__main__":
    for name in OPTIONS:
        (RECORDINGS / f"{name}.sse").write_bytes(streamed(name))
        (RECORDINGS / f"{name}.json").write_text(json.dumps(retrieved(name), indent=2) + "\n")
