"""Test the AI SDK's dialect under arbitrary answers: the parts fit together, and each replay repeats them."""

import json
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.ai_sdk.stream import UiMessageStream
from shared.model.events import Event, EventId, EventType, decode_frame, encode_data, encode_frame, split_frames
from tests.property.test_chat_dialect import FAILED, ROLLBACK, any_delta, completed, log_of, texts, values

CANCELLED = Event(EventType.CANCELLED, EventId(9, 1), FAILED.data)
ENDS = {"completed": [completed()], "failed": [FAILED], "rollback": [ROLLBACK, completed()], "cancelled": [CANCELLED]}

calls = st.builds(
    lambda number, arguments: {
        "tool_calls": [{"index": number, "id": f"c{number}", "function": {"name": "look", "arguments": arguments}}]
    },
    st.integers(0, 2),
    st.sampled_from(["", "{", "}", '{"a":1}', "x"]),
)
# Deltas as an earlier version wrote them: as they came.
loose = st.dictionaries(st.sampled_from(["content", "reasoning", "tool_calls", "annotations", "logprobs"]), values)
loose_calls = st.builds(
    lambda index, call_id, name, arguments: {
        "tool_calls": [
            {"index": index, "function": {}}
            | ({"id": call_id} if call_id else {})
            | {"function": {"arguments": arguments} | ({"name": name} if name else {})}
        ]
    },
    st.integers(0, 2),
    st.sampled_from([None, "", "c1", "c2"]),
    st.sampled_from([None, "", "look", "find"]),
    st.sampled_from(["", "{", "}", '{"a":1}', "x"]),
)
deltas = st.lists(any_delta | calls, max_size=10)


def reported(events: list[Event]) -> bytes:
    return b"".join(map(UiMessageStream("m1").translate, events))


def parts(frames: bytes) -> list[dict[str, Any]]:
    """Decode the data of frames, `[DONE]` as a part of its own."""
    payloads = [frame.removeprefix(b"data: ") for frame in frames.split(b"\n\n")[:-1]]
    return [{"type": "DONE"} if payload == b"[DONE]" else json.loads(payload) for payload in payloads]


class Page:
    """Check the parts as `ai`'s processUIMessageStream does, and build its result."""

    def __init__(self) -> None:
        self.open: dict[str, str] = {}
        self.inputs: dict[str, str] = {}
        self.said = {"text": "", "reasoning": ""}

    def take(self, part: dict[str, Any]) -> None:
        kind, _, what = part["type"].partition("-")
        if kind in self.said:
            if what == "start":
                assert part["id"] not in self.open
                self.open[part["id"]] = kind
            assert self.open[part["id"]] == kind
            self.said[kind] += part.get("delta", "")
            if what == "end":
                del self.open[part["id"]]
        elif kind == "tool":
            if what == "input-start":
                self.inputs[part["toolCallId"]] = ""
            self.inputs[part["toolCallId"]] += part.get("inputTextDelta", "")


@given(st.lists(any_delta | calls | loose | loose_calls, max_size=10), st.sampled_from(sorted(ENDS)))
def test_the_parts_of_any_log_fit_together(sent: list[dict[str, Any]], how: str) -> None:
    told_parts = parts(reported(log_of(sent, *ENDS[how])))
    kinds = [part["type"] for part in told_parts]
    page = Page()

    for part in told_parts:
        page.take(part)

    assert kinds.count("start") <= 1
    shown = "start" in kinds
    if shown:
        assert kinds[:2] == ["start", "start-step"]
    match how:
        case "completed":
            assert kinds[-3:] == ["finish-step", "finish", "DONE"]
        case "cancelled":
            assert kinds[-2:] == ["abort", "DONE"]
        case "failed":
            assert kinds[-1:] == (["error"] if shown else [])
        case _:
            assert kinds[-1:] == (["error"] if kinds.count("error") else ["DONE"])
    assert kinds.count("DONE") + kinds.count("error") <= 1
    if kinds[-1:] == ["DONE"]:
        assert page.open == {}


@given(deltas)
def test_a_page_shows_the_text_of_the_first_choice(sent: list[dict[str, Any]]) -> None:
    page = Page()
    for part in parts(reported(log_of(sent, completed()))):
        page.take(part)

    first = [delta for delta in sent if not delta.get("index")]
    said = [delta.get("content", "") + delta.get("refusal", "") for delta in first]
    assert page.said["text"] == "".join(said)


@given(deltas, st.sampled_from(sorted(ENDS)), st.sets(st.integers(1, 10)))
def test_a_replay_gives_the_same_bytes_however_the_log_was_cut(
    sent: list[dict[str, Any]], how: str, cuts: set[int]
) -> None:
    events = log_of(sent, *ENDS[how])
    frames = [encode_frame(event.type, event.data, event.id) for event in events if event.id]
    edges = sorted({0, len(frames), *(cut for cut in cuts if cut < len(frames))})
    entries = [b"".join(frames[start:end]) for start, end in pairwise(edges)]
    replayed = [decode_frame(frame) for entry in entries for frame in split_frames(entry)]

    assert reported(replayed) == reported(events)


@given(st.sampled_from(["content", "reasoning_content", "refusal"]), texts)
def test_the_short_way_gives_the_bytes_of_the_long_way(name: str, text: str) -> None:
    begun, other = UiMessageStream("m1"), UiMessageStream("m1")
    first = Event(EventType.DELTA, EventId(1, 1), encode_data({name: "a"}))
    for stream in (begun, other):
        stream.translate(first)

    short = begun.translate(Event(EventType.DELTA, EventId(1, 2), encode_data({name: text})))
    long = other.translate(Event(EventType.DELTA, EventId(1, 2), encode_data({name: text, "x": 1})))

    assert short == long
