"""Test legacy completions under arbitrary answers: stream and whole text agree, and a stream can resume anywhere."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from openai.types import Completion

from gateway.dialects.chat.chunk_id import parse_chunk_id
from gateway.dialects.chat.resumed_stream import ResumedStream
from gateway.dialects.completions.stream import TextCompletion, TextOptions, TextStream
from shared.model.events import Event
from tests.property.test_chat_dialect import FAILED, JOB, answers, any_delta, completed, log_of, payloads_of

PLAIN = TextOptions(JOB, "fast")


def streamed(events: list[Event]) -> bytes:
    return b"".join(map(TextStream(PLAIN).translate, events))


def whole_of(events: list[Event]) -> dict[str, Any]:
    whole = TextCompletion(PLAIN)
    for event in events:
        whole.accept(event)
    return whole.body()


@given(st.lists(any_delta, max_size=8))
def test_a_stream_adds_up_to_the_whole_text(deltas: list[dict[str, Any]]) -> None:
    events = log_of(deltas, completed())

    chunks = [json.loads(payload) for payload in payloads_of(streamed(events))[:-1]]

    shown = [choice for chunk in chunks for choice in chunk["choices"]]
    for choice in whole_of(events)["choices"]:
        mine = [each for each in shown if each["index"] == choice["index"]]
        assert "".join(each["text"] for each in mine) == choice["text"]
        assert [each["finish_reason"] for each in mine] == [None] * (len(mine) - 1) + [choice["finish_reason"]]
    assert {choice["index"] for choice in shown} == {choice["index"] for choice in whole_of(events)["choices"]}


@given(answers())
def test_the_official_clients_model_takes_both(answer: tuple[int, list[dict[str, Any]]]) -> None:
    count, deltas = answer
    events = log_of(deltas, completed(count))

    body = whole_of(events)

    assert Completion.model_validate(body, strict=True).to_dict() == body
    tokens: dict[int, list[str]] = {}
    for payload in payloads_of(streamed(events))[:-1]:
        for choice in json.loads(payload)["choices"]:
            tokens.setdefault(choice["index"], []).extend((choice["logprobs"] or {}).get("tokens", ()))
    assert {choice["index"]: (choice["logprobs"] or {}).get("tokens", []) for choice in body["choices"]} == tokens


@given(st.lists(any_delta, max_size=6), st.booleans(), st.data())
def test_a_stream_that_is_resumed_after_any_chunk_gives_exactly_the_rest(
    deltas: list[dict[str, Any]], well: bool, data: st.DataObject
) -> None:
    events = log_of(deltas, completed() if well else FAILED)
    frames = [frame + b"\n\n" for frame in streamed(events).split(b"\n\n")[:-1]]
    numbered = [frame for frame in frames if b"\nid: " in frame]
    if not numbered:
        return
    cut = data.draw(st.integers(1, len(numbered)))
    cursor = numbered[cut - 1].rpartition(b"\nid: ")[2].decode().strip()

    resumed = ResumedStream(TextStream(PLAIN), parse_chunk_id(cursor))
    rest = b"".join(map(resumed.translate, events))

    assert rest + (b"" if resumed.shown else resumed.failure_frame()) == b"".join(frames[cut:])
