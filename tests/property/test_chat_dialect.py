"""Test the chat dialect under arbitrary answers: pure, complete, and the same by the short way and the long."""

import json
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion as ChatCompletionModel
from openai.types.chat import ChatCompletionChunk

from gateway.dialects.chat.chunk_id import parse_chunk_id
from gateway.dialects.chat.resumed_stream import ResumedStream
from gateway.dialects.chat.stream import ChatCompletion, ChatOptions, ChatStream
from shared.model.events import Event, EventId, EventType, decode_frame, encode_data, encode_frame, split_frames
from shared.model.jobs import new_job_id

JOB = new_job_id(1_700_000_000_000, 7)
HEAD = {
    "id": "chatcmpl-" + JOB.removeprefix("job_"),
    "object": "chat.completion.chunk",
    "created": 1_700_000_000,
}
DONE = b"[DONE]"

# Words that could be taken for the protocol's own, and characters that some clients take for a line break.
AWKWARD = [
    '"index":',
    '"logprobs":',
    '","index":1',
    '"delta":{}',
    '"text":""',
    "index",
    "logprobs",
    "data: [DONE]\n\n",
    "\r\n\u2028",
    '\\","',
]
texts = st.text(max_size=8) | st.sampled_from(AWKWARD)
scalars = st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts.filter(bool)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(st.none() | inner, min_size=1, max_size=3)
        | st.dictionaries(texts, st.none() | inner, min_size=1, max_size=3)
    ),
    max_leaves=8,
)
words = st.text(min_size=1, max_size=4)
# The fields of a delta that have a form of their own (the worker's chunk reader gives it).
OWN_FORM = {"index", "role", "tool_calls", "logprobs", "choice_extra", "chunk_extra"}
RESERVED = {"id", "object", "created", "model", "choices", "usage", "index", "delta", "message", "text"}
RESERVED |= {"finish_reason", "logprobs"}
SPOKEN = ["content", "reasoning_content", "refusal"]
spoken = st.sampled_from(SPOKEN)
further = st.sampled_from(["audio", "annotations", "images", "reasoning_details", "content_parts"]) | texts
extra = st.dictionaries(texts | st.sampled_from(sorted(RESERVED)), values, min_size=1, max_size=3)
any_logprobs = st.dictionaries(st.sampled_from(["content", "refusal"]) | texts, values, min_size=1, max_size=2)
any_delta = st.builds(
    lambda said, more, beside, index: (
        said
        | {name: value for name, value in more.items() if name not in {*OWN_FORM, *SPOKEN}}
        | beside
        | ({"index": index} if index else {})
    ),
    st.dictionaries(spoken, words | st.sampled_from(AWKWARD), max_size=2),
    st.just({}) | st.dictionaries(further, values, max_size=2),
    st.just({})
    | st.fixed_dictionaries({}, optional={"choice_extra": extra, "chunk_extra": extra, "logprobs": any_logprobs}),
    st.sampled_from([0, 0, 0, 1, 2]),
).filter(lambda delta: delta.keys() - {"index"})
options = st.builds(
    ChatOptions,
    job_id=st.just(JOB),
    model=texts,
    include_usage=st.booleans(),
    choices=st.integers(1, 3),
)

honest_delta = st.one_of(
    st.builds(lambda text: {"content": text}, words),
    st.builds(lambda text: {"reasoning_content": text}, words),
    st.builds(lambda text: {"refusal": text}, words),
    st.builds(lambda text: {"content": text, "logprobs": {"content": [token(text)], "refusal": None}}, words),
)


def token(text: str) -> dict[str, Any]:
    return {"token": text, "logprob": -1.0, "bytes": list(text.encode()), "top_logprobs": []}


@st.composite
def answers(draw: st.DrawFn) -> tuple[int, list[dict[str, Any]]]:
    """Generate the chunks of a provider that follows the rules: some choices, interleaved, with words and calls."""
    count = draw(st.integers(1, 3))
    calls: dict[int, int] = {}
    sent = []
    for index in draw(st.lists(st.integers(0, count - 1), max_size=12)):
        made = calls.get(index, 0)
        what = draw(st.sampled_from(["words", "call", "arguments"]))
        if what == "call":
            calls[index] = made + 1
            function = {"name": "f", "arguments": draw(words)}
            delta = {"tool_calls": [{"index": made, "id": f"call_{made}", "type": "function", "function": function}]}
        elif what == "arguments" and made:
            number = draw(st.integers(0, made - 1))
            delta = {"tool_calls": [{"index": number, "function": {"arguments": draw(words)}}]}
        else:
            delta = draw(honest_delta)
        sent.append(delta | ({"index": index} if index else {}))
    return count, sent


def log_of(deltas: list[dict[str, Any]], *ends: Event) -> list[Event]:
    """Build a job's events, with these deltas in its first execution."""
    events = [Event(EventType.QUEUED, EventId(0, 1), b"{}"), Event(EventType.STARTED, EventId(1, 1), b"{}")]
    events += [Event(EventType.DELTA, EventId(1, seq), encode_data(data)) for seq, data in enumerate(deltas, 2)]
    return events + list(ends)


def completed(choices: int = 1) -> Event:
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "source": "provider"}
    data = {"finish_reason": "stop", "finish_reasons": ["stop"] * choices, "usage": usage}
    return Event(EventType.COMPLETED, EventId(9, 1), encode_data(data))


FAILED = Event(
    EventType.FAILED,
    EventId(9, 1),
    encode_data({"error": {"code": "x", "message": "No.", "retryable": False}}),
)
ROLLBACK = Event(EventType.ROLLBACK, EventId(2, 1), b'{"to":"0-1","reason":"worker_lost"}')


def stream_of(options: ChatOptions, events: list[Event]) -> bytes:
    return b"".join(map(ChatStream(options).translate, events))


def body_of(events: list[Event]) -> dict[str, Any]:
    completion = ChatCompletion(ChatOptions(JOB, "fast"))
    for event in events:
        completion.accept(event)
    return completion.body()


def is_visible(delta: dict[str, Any]) -> bool:
    """Return whether a delta has a chunk of its own."""
    return bool(delta.keys() - {"index", "choice_extra", "chunk_extra"})


def shown_extra(delta: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in delta.get(name, {}).items() if key not in RESERVED}


def the_long_way(options: ChatOptions, delta: dict[str, Any]) -> bytes:
    """Build the chunk of one delta from its decoded data alone."""
    if not is_visible(delta):
        return b""
    given = {name: value for name, value in delta.items() if name not in OWN_FORM}
    choice = {"index": delta.get("index", 0), "delta": given}
    if "logprobs" in delta:
        choice["logprobs"] = delta["logprobs"]
    choice |= {"finish_reason": None, **shown_extra(delta, "choice_extra")}
    beside = sorted(shown_extra(delta, "chunk_extra").items(), key=lambda item: isinstance(item[1], dict | list))
    chunk = HEAD | {"model": options.model} | dict(beside) | {"choices": [choice]}
    if options.include_usage:
        chunk["usage"] = None
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode("ascii") + b"\nid: 1-2\n\n"


def payloads_of(frames: bytes) -> list[bytes]:
    """Return the payloads of frames, without their ids."""
    *said, rest = frames.split(b"\n\n")
    assert rest == b""
    lines = [frame.split(b"\n") for frame in said]
    assert all(data.startswith(b"data: ") and all(line.startswith(b"id: ") for line in ids) for data, *ids in lines)
    return [data.removeprefix(b"data: ") for data, *_ in lines]


@given(options, any_delta)
def test_the_short_way_gives_the_bytes_of_the_long_way(options: ChatOptions, delta: dict[str, Any]) -> None:
    stream = ChatStream(options)
    for index in range(3):
        stream.translate(Event(EventType.DELTA, EventId(1, 1), encode_data({"content": "a", "index": index})))

    assert stream.translate(Event(EventType.DELTA, EventId(1, 2), encode_data(delta))) == the_long_way(options, delta)


@given(options, st.lists(any_delta, max_size=8), st.sets(st.integers(1, 10)))
def test_a_replay_gives_the_same_bytes_however_the_log_was_cut(
    options: ChatOptions, deltas: list[dict[str, Any]], cuts: set[int]
) -> None:
    events = log_of(deltas, completed())
    frames = [encode_frame(event.type, event.data, event.id) for event in events if event.id]
    edges = sorted({0, len(frames), *(cut for cut in cuts if cut < len(frames))})
    entries = [b"".join(frames[start:end]) for start, end in pairwise(edges)]
    replayed = [decode_frame(frame) for entry in entries for frame in split_frames(entry)]

    assert stream_of(options, replayed) == stream_of(options, events)


@given(options, st.lists(any_delta, max_size=6), st.sampled_from([[], [True], [False]]), st.data())
def test_a_caller_cut_off_after_any_chunk_gets_exactly_the_rest(
    options: ChatOptions, deltas: list[dict[str, Any]], ends: list[bool], data: st.DataObject
) -> None:
    events = log_of(deltas, *(completed() if well else FAILED for well in ends))
    frames = [frame + b"\n\n" for frame in stream_of(options, events).split(b"\n\n")[:-1]]
    numbered = [frame for frame in frames if b"\nid: " in frame]
    assert len({frame.rpartition(b"\nid: ")[2] for frame in numbered}) == len(numbered)
    assert frames[: len(numbered)] == numbered
    if not numbered:
        return
    cut = data.draw(st.integers(1, len(numbered)))
    cursor = numbered[cut - 1].rpartition(b"\nid: ")[2].decode().strip()

    resumed = ResumedStream(ChatStream(options), parse_chunk_id(cursor))
    rest = b"".join(map(resumed.translate, events))

    assert rest + (b"" if resumed.shown else resumed.failure_frame()) == b"".join(frames[cut:])
    assert resumed.ended == bool(ends)


@given(
    options,
    st.lists(any_delta, max_size=6),
    st.sampled_from([[], [completed()], [FAILED], [ROLLBACK, completed()], [completed(), FAILED]]),
)
def test_a_stream_ends_with_its_outcome_and_sends_nothing_after_it(
    options: ChatOptions, deltas: list[dict[str, Any]], ends: list[Event]
) -> None:
    stream = ChatStream(options)
    frames = b"".join(map(stream.translate, log_of(deltas, *ends)))

    payloads = payloads_of(frames)
    said = [json.loads(payload) for payload in payloads if payload != DONE]
    errors = [data for data in said if "error" in data]
    assert stream.ended == bool(ends)
    assert stream.shown == any(map(is_visible, deltas))
    assert (DONE in payloads) == (payloads[-1:] == [DONE]) == (stream.ended and stream.failure is None and bool(frames))
    assert payloads.count(DONE) <= 1
    assert bool(errors) == (stream.failure is not None and stream.shown)
    assert errors == said[len(said) - len(errors) :]
    assert len(errors) <= 1


@given(options, st.lists(any_delta, max_size=8))
def test_each_choice_of_a_completed_stream_has_one_role_first_and_one_finish_reason_last(
    options: ChatOptions, deltas: list[dict[str, Any]]
) -> None:
    frames = stream_of(options, log_of(deltas, completed()))

    chunks = [json.loads(payload) for payload in payloads_of(frames)[:-1]]
    by_index: dict[int, list[Any]] = {}
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        by_index.setdefault(choice["index"], []).append(choice)
    for choices in by_index.values():
        assert ["role" in choice["delta"] for choice in choices] == [True] + [False] * (len(choices) - 1)
        assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + ["stop"]
    assert [bool(chunk.get("usage")) for chunk in chunks] == [False] * (len(chunks) - 1) + [options.include_usage]


@given(answers())
def test_the_completion_equals_the_one_that_the_official_client_builds_from_the_stream(
    answer: tuple[int, list[dict[str, Any]]],
) -> None:
    count, deltas = answer
    events = log_of(deltas, completed(count))
    frames = stream_of(ChatOptions(JOB, "fast", include_usage=True, choices=count), events)
    state = ChatCompletionStreamState()
    for payload in payloads_of(frames)[:-1]:
        state.handle_chunk(ChatCompletionChunk.model_validate_json(payload))

    helped = state.get_final_completion().to_dict()

    body = body_of(events)
    assert ChatCompletionModel.model_validate(body, strict=True).to_dict() == body
    assert gist(helped) == gist(body)


@given(st.lists(st.tuples(st.integers(1, 4), any_delta), max_size=8), st.integers(0, 5), st.integers(0, 9))
def test_a_rollback_leaves_the_same_as_a_list_cut_at_its_id(
    parts: list[tuple[int, dict[str, Any]]], epoch: int, seq: int
) -> None:
    deltas = [
        Event(EventType.DELTA, EventId(part, number), encode_data(data))
        for number, (part, data) in enumerate(sorted(parts, key=lambda part: part[0]), 1)
    ]
    to = EventId(epoch, seq)
    rollback = Event(EventType.ROLLBACK, EventId(6, 1), encode_data({"to": str(to), "reason": "worker_lost"}))
    surviving = [delta for delta in deltas if delta.id and delta.id <= to]

    assert body_of([*deltas, rollback, completed()]) == body_of([*surviving, completed()])


@given(st.lists(any_delta, max_size=8))
def test_any_deltas_can_be_put_together(deltas: list[dict[str, Any]]) -> None:
    body = body_of(log_of(deltas, completed()))

    assert json.loads(encode_data(body)) == body
    assert {choice["index"] for choice in body["choices"]} == {0} | {delta.get("index", 0) for delta in deltas}


@given(st.lists(any_delta, max_size=8))
def test_a_stream_and_a_completion_show_the_same_fields_beside_the_deltas(deltas: list[dict[str, Any]]) -> None:
    events = log_of(deltas, completed())
    body = body_of(events)

    beside: dict[int, dict[str, Any]] = {}
    further: dict[str, Any] = {}
    for payload in payloads_of(stream_of(ChatOptions(JOB, "fast"), events))[:-1]:
        chunk = json.loads(payload)
        (choice,) = chunk["choices"]
        own = {name: value for name, value in choice.items() if name not in RESERVED}
        beside.setdefault(choice["index"], {}).update(own)
        further |= {name: value for name, value in chunk.items() if name not in RESERVED}

    assert {name: value for name, value in body.items() if name not in RESERVED} == further
    for choice in body["choices"]:
        assert {name: value for name, value in choice.items() if name not in RESERVED} == beside[choice["index"]]


def gist(completion: dict[str, Any]) -> list[Any]:
    """Return the fields on which a stream and a completion must agree; for null, a stream may say an empty text."""
    choices = []
    for choice in completion["choices"]:
        message = choice["message"]
        texts = [message.get(name) or None for name in ("content", "reasoning_content", "refusal")]
        calls = [
            (call["id"], call["type"], call["function"]["name"], call["function"]["arguments"])
            for call in message.get("tool_calls") or ()
        ]
        tokens = [entry["token"] for entry in (choice.get("logprobs") or {}).get("content") or ()]
        choices.append((choice["index"], message["role"], texts, calls, tokens, choice["finish_reason"]))
    return [choices, completion["usage"], completion["created"], completion["model"], completion["id"]]
