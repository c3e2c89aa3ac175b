"""Test any way to write a known answer: every dialect gives the same answer; bytes in, folded replies out."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialects.ai_sdk.stream import UiMessageStream
from gateway.dialects.chat.stream import ChatCompletion, ChatOptions, ChatStream
from gateway.dialects.completions.stream import TextCompletion, TextOptions, TextStream
from gateway.dialects.responses.object import ResponseOptions
from gateway.dialects.responses.stream import ResponseStream, WholeResponse
from shared.model.bounds import EVENT_BYTES
from shared.model.errors import AttemptFailed
from shared.model.events import EventId, EventType, decode_frame, encode_data, encode_frame
from tests.property.test_chat_dialect import JOB
from tests.support import folded
from tests.support.folded import Answer
from tests.support.folded import answer as views
from tests.support.spellings import Choice, answers, spelled
from worker.upstream.wire.answers import ChatAnswer
from worker.upstream.wire.chunk_reader import ChunkReader

USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "source": "provider"}


def refuse(error: object) -> AttemptFailed:
    """Fail: no answer here has an error."""
    raise AssertionError(error)


def read(pieces: Sequence[bytes]) -> list[bytes]:
    """Read an upstream's bytes into the frames that the worker would log."""
    answer = ChatAnswer(ChunkReader("seed", refuse), EVENT_BYTES)
    chunks = [chunk for piece in pieces if not answer.done for chunk in answer.feed(piece)]
    chunks += answer.end()
    deltas = [encode_data(delta) for chunk in chunks for delta in chunk.deltas]
    reasons: dict[int, str] = {}
    for chunk in chunks:
        reasons.update(chunk.finished)
    outcome = {
        "finish_reason": reasons.get(0),
        "finish_reasons": [reasons.get(index) for index in range(len(reasons))],
        "usage": USAGE,
        "sha256": hashlib.sha256(b"".join(deltas)).hexdigest(),
        "events": len(deltas) + 3,
    }
    return [
        encode_frame(EventType.QUEUED, b"{}", EventId(0, 1)),
        encode_frame(EventType.STARTED, b"{}", EventId(1, 1)),
        *(encode_frame(EventType.DELTA, data, EventId(1, seq)) for seq, data in enumerate(deltas, 2)),
        encode_frame(EventType.COMPLETED, encode_data(outcome), EventId(1, len(deltas) + 2)),
    ]


def streamed(translator: Any, frames: Sequence[bytes]) -> bytes:
    """Return all that a translator makes of these frames."""
    return b"".join(translator.translate(decode_frame(frame)) for frame in frames)


def whole(translator: Any, frames: Sequence[bytes]) -> dict[str, Any]:
    """Return the body that a translator makes of these frames."""
    for frame in frames:
        translator.accept(decode_frame(frame))
    body: dict[str, Any] = translator.body()
    return body


Fold = Callable[[Sequence[bytes], int, int], Answer]
"""Given a job's frames, the number of its choices and one of them: the answer in a dialect."""
View = Callable[[Answer], Answer]

OF_EACH_CHOICE: dict[str, tuple[Fold, View]] = {
    "native": (lambda frames, n, choice: folded.fold_native(b"".join(frames), choice), lambda answer: answer),
    "chat": (
        lambda frames, n, choice: folded.fold_chat(whole(ChatCompletion(ChatOptions(JOB, "m")), frames), choice),
        lambda answer: answer,
    ),
    "chat-stream": (
        lambda frames, n, choice: folded.fold_chat_stream(
            streamed(ChatStream(ChatOptions(JOB, "m", include_usage=True, choices=n)), frames), choice
        ),
        lambda answer: answer,
    ),
    "text": (
        lambda frames, n, choice: folded.fold_text(whole(TextCompletion(TextOptions(JOB, "m")), frames), choice),
        views.in_completions,
    ),
    "text-stream": (
        lambda frames, n, choice: folded.fold_text_stream(streamed(TextStream(TextOptions(JOB, "m")), frames), choice),
        views.in_completions,
    ),
}
ASKED_FOR_SUMMARIES = {"reasoning": {"summary": "auto"}}
OF_THE_FIRST_CHOICE: dict[str, tuple[Fold, View]] = {
    "response": (
        lambda frames, n, choice: folded.fold_response(whole(WholeResponse(ResponseOptions(JOB, "m")), frames)),
        views.without_extra,
    ),
    "response-stream": (
        lambda frames, n, choice: folded.fold_response_stream(
            streamed(ResponseStream(ResponseOptions(JOB, "m")), frames)
        ),
        views.without_extra,
    ),
    "summaries": (
        lambda frames, n, choice: folded.fold_response_stream(
            streamed(ResponseStream(ResponseOptions(JOB, "m", asked=ASKED_FOR_SUMMARIES)), frames)
        ),
        views.without_extra,
    ),
    "ui": (lambda frames, n, choice: folded.fold_ui(streamed(UiMessageStream("m1"), frames)), views.on_pages),
    "transcript": (lambda frames, n, choice: folded.fold_transcript(b"".join(frames)), views.in_transcripts),
}


def comparable(got: Answer, expected: Answer, view: View) -> tuple[Answer, Answer]:
    """Return both answers as the dialect shows them, without generated ids, and arguments without white space."""
    assert all(call.id for call in got.calls) or not any(call.id for call in got.calls)
    assert len({call.id for call in got.calls if call.id}) in (0, len(got.calls))
    known = [call.id for call in expected.calls]
    calls = [
        replace(call, id=call.id if at < len(known) and known[at] else "", arguments=folded.canonical(call.arguments))
        for at, call in enumerate(got.calls)
    ]
    return view(replace(got, calls=tuple(calls))), view(expected)


@settings(max_examples=150, deadline=None)
@given(answers(), st.integers(0, 2**32))
def test_every_dialect_shows_the_same_answer_however_it_was_written(choices: list[Choice], seed: int) -> None:
    pieces = spelled(choices, Random(seed))

    frames = read(pieces)

    for name, (fold, view) in (OF_EACH_CHOICE | OF_THE_FIRST_CHOICE).items():
        for number, choice in enumerate(choices if name in OF_EACH_CHOICE else choices[:1]):
            got, expected = comparable(fold(frames, len(choices), number), choice.answer, view)
            assert got == expected, (name, number, b"".join(pieces))
