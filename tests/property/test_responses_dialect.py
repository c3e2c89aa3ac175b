"""Test the responses dialect under arbitrary answers: numbered without gaps, and the same from any cursor."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from openai import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response
from openai.types.responses import ResponseStreamEvent as ResponseEvent
from pydantic import TypeAdapter

from gateway.dialects.responses.object import ResponseOptions
from gateway.dialects.responses.stream import ALL, ResponseStream, WholeResponse
from shared.model.events import Event, EventId, EventType, encode_data
from tests.property.test_chat_dialect import (
    AWKWARD,
    FAILED,
    JOB,
    ROLLBACK,
    answers,
    any_delta,
    completed,
    log_of,
    values,
)

EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseEvent)
CANCELLED = FAILED._replace(type=EventType.CANCELLED)
LENGTH = Event(EventType.COMPLETED, EventId(9, 1), encode_data({"finish_reason": "length", "usage": None}))

texts = st.text(max_size=8) | st.sampled_from(AWKWARD[:-1]) | st.sampled_from(['"', "\\", '\\"', '"}', '{"content":"'])
TOOLS = [
    {"type": "custom", "name": "f"},
    {
        "type": "namespace",
        "name": "n",
        "description": "Others.",
        "tools": [{"type": "function", "name": "f"}, {"type": "custom", "name": "g"}],
    },
]
asked = st.fixed_dictionaries(
    {}, optional={"reasoning": st.just({"summary": "auto"}), "tools": st.sampled_from([TOOLS, TOOLS[:1], TOOLS[1:]])}
)
options = st.builds(ResponseOptions, job_id=st.just(JOB), model=texts, background=st.booleans(), asked=asked)
CITED = {"type": "url_citation", "url_citation": {"url": "u", "title": "t", "start_index": 0, "end_index": 1}}
calls = st.builds(
    lambda number, name, arguments, custom: {
        "tool_calls": [
            {"index": number, "id": f"c{number}", "type": "custom", "custom": {"name": name, "input": arguments}}
            if custom
            else {"index": number, "id": f"c{number}", "function": {"name": name, "arguments": arguments}, "extra": 1}
        ]
    },
    st.integers(0, 2),
    st.sampled_from(["f", "g", "n__f", "h"]),
    st.sampled_from(["", "{}", '{"input":"', '\\"', "x", '"}', "\\ud83d"]),
    st.booleans(),
)
# A delta as an earlier version wrote it: as it came.
loose = st.dictionaries(st.sampled_from(["content", "reasoning", "tool_calls", "annotations", "logprobs"]), values)
deltas = st.lists(
    any_delta | calls | loose | st.just({"annotations": [CITED]}) | st.builds(lambda text: {"content": text}, texts),
    max_size=8,
)
ends = st.sampled_from([[], [completed()], [LENGTH], [FAILED], [CANCELLED], [ROLLBACK, completed()]])


def frames_of(options: ResponseOptions, events: list[Event], after: int = ALL) -> list[bytes]:
    stream = ResponseStream(options, after)
    frames = b"".join(map(stream.translate, events))
    assert frames == b"" or frames.endswith(b"\n\n")
    return frames.split(b"\n\n")[:-1]


def data_of(frame: bytes) -> dict[str, Any]:
    head, data = frame.split(b"\n")
    decoded: dict[str, Any] = json.loads(data.removeprefix(b"data: "))
    assert head == b"event: " + decoded["type"].encode()
    return decoded


def whole(options: ResponseOptions, events: list[Event]) -> dict[str, Any]:
    folded = WholeResponse(options)
    for event in events:
        folded.accept(event)
    return folded.body()


Place = tuple[int, str, int]
"""An item's number, a list or a field of it, and the number in that list."""


def place_of(event: dict[str, Any]) -> Place:
    for number, name in (("content_index", "content"), ("summary_index", "summary")):
        if number in event:
            return event["output_index"], name, event[number]
    return event["output_index"], "call", 0


def spoken(events: list[dict[str, Any]]) -> dict[Place, str]:
    """Join the deltas of each part."""
    found: dict[Place, str] = {}
    for event in events:
        if event["type"].endswith(".delta"):
            found[place_of(event)] += event["delta"]
        elif event["type"].endswith("_part.added") or event.get("item", {}).get("type", "").endswith("_call"):
            found.setdefault(place_of(event), "")
    return found


def written(output: list[dict[str, Any]]) -> dict[Place, str]:
    """Return the content of the finished items."""
    found: dict[Place, str] = {}
    for index, item in enumerate(output):
        if item["type"].endswith("_call"):
            found[index, "call", 0] = item["arguments" if item["type"] == "function_call" else "input"]
        for name in ("content", "summary"):
            for number, part in enumerate(item.get(name) or ()):
                found[index, name, number] = part["refusal" if part["type"] == "refusal" else "text"]
    return found


def joined(said: dict[Place, str]) -> dict[Place, str]:
    """Join halves of a character, as a browser does."""
    return {place: text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for place, text in said.items()}


@given(options, deltas, ends)
def test_events_are_numbered_without_a_gap(
    options: ResponseOptions, deltas: list[dict[str, Any]], ends: list[Event]
) -> None:
    frames = [data_of(frame) for frame in frames_of(options, log_of(deltas, *ends))]

    assert [frame["sequence_number"] for frame in frames] == list(range(len(frames)))


@given(options, deltas, ends, st.integers(0, 40), st.integers(0, 40))
def test_a_stream_cut_twice_continues_with_exactly_the_rest(
    options: ResponseOptions, deltas: list[dict[str, Any]], ends: list[Event], first: int, second: int
) -> None:
    events = log_of(deltas, *ends)
    frames = frames_of(options, events)
    earlier, later = sorted((first, second))

    assert frames_of(options, events, earlier) == frames[earlier + 1 :]
    read = frames[: earlier + 1] + frames_of(options, events, earlier)[: later - earlier]
    assert read + frames_of(options, events, later) == frames


@given(options, deltas, st.sampled_from([completed(), LENGTH, FAILED, CANCELLED]))
def test_the_last_event_contains_the_response_with_the_text_of_the_deltas(
    options: ResponseOptions, deltas: list[dict[str, Any]], end: Event
) -> None:
    events = log_of(deltas, end)
    frames = [data_of(frame) for frame in frames_of(options, events)]

    response = frames[-1]["response"]
    assert response == whole(options, events)
    assert joined(written(response["output"])) == joined(spoken(frames))
    done = [frame["item"] for frame in frames if frame["type"] == "response.output_item.done"]
    assert sorted(item["id"] for item in done) == sorted(item["id"] for item in response["output"])
    assert all(item in response["output"] for item in done)


@given(options, st.sampled_from(["content", "reasoning_content", "refusal"]), texts, st.integers(-1, 12))
def test_the_short_way_gives_the_bytes_of_the_long_way(
    options: ResponseOptions, name: str, text: str, after: int
) -> None:
    short = frames_of(options, log_of([{name: "a"}, {name: text}], completed()), after)
    long = frames_of(options, log_of([{name: "a", "x": 1}, {name: text, "x": 1}], completed()), after)

    assert short == long


@given(options, deltas, deltas)
def test_rolled_back_text_is_in_no_response_and_a_stream_that_showed_it_ends_in_an_error(
    options: ResponseOptions, lost: list[dict[str, Any]], kept: list[dict[str, Any]]
) -> None:
    again = [Event(EventType.DELTA, EventId(3, seq), encode_data(data)) for seq, data in enumerate(kept, 1)]
    events = [*log_of(lost), ROLLBACK, *again, completed()]

    last = data_of(frames_of(options, events)[-1])
    shown = ResponseStream(options)
    for event in log_of(lost):
        shown.translate(event)

    assert whole(options, events) == whole(options, log_of(kept, completed()))
    assert last["type"] == ("error" if shown.shown else "response.completed")
    if not shown.shown:
        assert last["response"] == whole(options, events)


@settings(deadline=None)  # the client builds its types at the first call
@given(answers(), asked)
def test_the_official_clients_helper_makes_the_response_of_the_stream(
    answer: tuple[int, list[dict[str, Any]]], asked: dict[str, Any]
) -> None:
    _, deltas = answer
    options = ResponseOptions(JOB, "fast", asked=asked)
    events = log_of(deltas, completed())
    state: ResponseStreamState[Any] = ResponseStreamState(input_tools=[], text_format=omit)
    reported: list[Any] = []
    for frame in frames_of(options, events):
        reported += state.handle_event(EVENTS.validate_json(encode_data(data_of(frame)), strict=True))

    Response.model_validate(whole(options, events), strict=True)
    assert reported[-1].type == "response.completed"
    assert written(reported[-1].response.to_dict()["output"]) == written(whole(options, events)["output"])
