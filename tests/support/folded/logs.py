"""Fold native streams: by the rules of the log, with a check of its form, and with the command line's transcript."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gateway.client.model.transcript import Transcript, Voice
from shared.model.events import Event, decode_frame, split_frames
from shared.model.sse_parser import SentEvent
from tests.support.folded.answer import Answer, Call, Trouble, counts
from tests.support.system import proven

_TEXTS = ("content", "reasoning_content", "refusal")
_FORMER_NAMES = frozenset({"role", "reasoning", "reasoning_text", "thinking", "function_call"})


def fold_native(body: bytes, choice: int = 0) -> Answer:
    """One choice of a job's events. `raw` is the story: every event, proven."""
    story = proven([decode_frame(frame) for frame in split_frames(body.replace(b": hb\n", b""))])
    deltas = [delta.json() for delta in story.deltas]
    for delta in deltas:
        check_delta(delta)
    mine = [delta for delta in deltas if delta.get("index", 0) == choice]
    texts = {name: "".join(delta.get(name, "") for delta in mine) for name in _TEXTS}
    error = story.end.get("error")
    reasons = story.end.get("finish_reasons") or [story.end.get("finish_reason")]
    return Answer(
        text=texts["content"],
        reasoning=texts["reasoning_content"],
        refusal=texts["refusal"],
        calls=tuple(_logged_calls(mine)),
        finish=None if error else reasons[choice],
        trouble=Trouble(error["message"], error["code"]) if error else None,
        usage=counts(story.end.get("usage"), "prompt_tokens", "completion_tokens", "total_tokens"),
        raw=story,
    )


def check_delta(delta: Mapping[str, Any]) -> None:
    """Check that a delta has the one form of the log."""
    assert delta, "a delta is empty"
    assert not delta.keys() & _FORMER_NAMES, delta
    assert all(value is not None and value != "" and value != [] for value in delta.values()), delta
    assert delta.get("index") != 0
    for name in _TEXTS:
        text = delta.get(name, "")
        assert isinstance(text, str)
        text.encode()  # no half of a surrogate pair


def _logged_calls(deltas: Sequence[Mapping[str, Any]]) -> Iterator[Call]:
    """The calls of one choice, from fragments that must follow the one form of the log."""
    calls: list[Call] = []
    for fragment in (fragment for delta in deltas for fragment in delta.get("tool_calls", ())):
        further = {
            name: value for name, value in fragment.items() if name not in ("index", "id", "type", "function", "custom")
        }
        given = fragment.get("function") or {}
        arguments = given.get("arguments", "")
        if "custom" in fragment:
            given = fragment["custom"]
            arguments = given.get("input", "")
        assert isinstance(arguments, str)
        if "id" in fragment:
            assert fragment["index"] == len(calls), fragment
            assert fragment["id"] and given["name"] and fragment["type"] in ("function", "custom")
            assert fragment["id"] not in [call.id for call in calls]
            calls.append(Call(fragment["id"], given["name"], arguments, further))
        else:
            assert "name" not in given
            call = calls[fragment["index"]]
            calls[fragment["index"]] = replace(
                call, arguments=call.arguments + arguments, extra={**call.extra, **further}
            )
    return iter(calls)


def fold_transcript(body: bytes) -> Answer:
    """The same events as the command line understands them."""
    transcript = Transcript()
    for event in map(decode_frame, split_frames(body.replace(b": hb\n", b""))):
        transcript.apply(_as_sent(event))
    assert transcript.end is not None
    error = transcript.end.data.get("error")
    calls = tuple(Call("", call.name, call.arguments) for call in transcript.tool_calls)
    return Answer(
        text=transcript.text,
        reasoning="".join(said.text for said in transcript.said if said.voice is Voice.REASONING),
        calls=calls,
        finish=None if error else transcript.end.data["finish_reason"],
        trouble=Trouble(error["message"], error["code"]) if error else None,
        raw=transcript,
    )


def _as_sent(event: Event) -> SentEvent:
    return SentEvent(event.type.value, event.data, None if event.id is None else str(event.id))
