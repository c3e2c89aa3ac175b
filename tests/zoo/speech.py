"""Put an answer into bytes as one upstream speaks: correctly, or in one of the loose ways that are seen in the wild.

Each manner is a function from an answer to the frames of an event stream, made of chunks of a chat completion. A whole
completion is added up from the answer itself. Pure. Not here: the choice of an answer (answers.py).
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.zoo.answers import Answer, Call

_HEAD = {"id": "chatcmpl-zoo", "created": 1_790_000_000, "model": "zoo"}
_DONE = b"data: [DONE]\n\n"
_PIECE = 7


@dataclass(frozen=True)
class Manner:
    """One way of speaking. `deltas` makes the deltas; the other fields change the framing."""

    deltas: Callable[[Answer], Iterator[dict[str, Any]]]
    before: bytes = b""
    """Bytes in front of the first event."""
    between: bytes = b""
    """Bytes after each event."""
    whole: bool = False
    """The stream is one event with a whole completion."""
    complete: Callable[[dict[str, Any], Answer], None] = lambda message, answer: None
    """Add to a whole message what this upstream says beyond text and calls."""

    def completion(self, answer: Answer) -> dict[str, Any]:
        """Return the answer as a whole chat completion."""
        message: dict[str, Any] = {"role": "assistant", "content": answer.text or None}
        if answer.calls:
            message["tool_calls"] = [_announced(call, call.arguments) for call in answer.calls]
        self.complete(message, answer)
        choice = {"index": 0, "message": message, "finish_reason": _reason(answer)}
        return {**_HEAD, "object": "chat.completion", "choices": [choice], "usage": _USAGE}

    def stream(self, answer: Answer, *, usage: bool) -> Iterator[bytes]:
        """Return the answer as the frames of an event stream."""
        if self.whole:
            yield _event(self.completion(answer))
            yield _DONE
            return
        yield self.before
        for delta in self.deltas(answer):
            yield _chunk([{"index": 0, "delta": delta, "finish_reason": None}])
            yield self.between
        yield _chunk([{"index": 0, "delta": {}, "finish_reason": _reason(answer)}])
        if usage:
            yield _chunk([], usage=_USAGE)
        yield _DONE


def _plain(answer: Answer) -> Iterator[dict[str, Any]]:
    """OpenAI: a call is announced with its name, then its arguments come in pieces."""
    yield {"role": "assistant", "content": None if answer.calls else ""}
    for piece in _pieces(answer.text):
        yield {"content": piece}
    for number, call in enumerate(answer.calls):
        yield {"tool_calls": [{"index": number, **_announced(call, "")}]}
        for piece in _pieces(call.arguments):
            yield {"tool_calls": [{"index": number, "function": {"arguments": piece}}]}


def _thinking(answer: Answer) -> Iterator[dict[str, Any]]:
    """DeepSeek: thoughts come first, in a field of their own."""
    yield {"role": "assistant", "content": None, "reasoning_content": ""}
    for piece in _pieces(answer.thoughts):
        yield {"content": None, "reasoning_content": piece}
    yield from list(_plain(answer))[1:]


def _same_index(answer: Answer) -> Iterator[dict[str, Any]]:
    """Gemini: each call comes whole, each has the index 0, the first one carries the signature."""
    for piece in _pieces(answer.text):
        yield {"role": "assistant", "content": piece}
    for number, call in enumerate(answer.calls):
        fragment = {"index": 0, **_announced(call, call.arguments)}
        if number == 0:
            fragment["extra_content"] = _signature(answer)
        yield {"role": "assistant", "tool_calls": [fragment]}


def _signed(answer: Answer) -> Iterator[dict[str, Any]]:
    """Gemini's state in OpenAI's words: the first call's announcement carries the signature."""
    for delta in _plain(answer):
        for fragment in delta.get("tool_calls", ()):
            if "id" in fragment and fragment["index"] == 0:
                fragment["extra_content"] = _signature(answer)
        yield delta


def _parts(answer: Answer) -> Iterator[dict[str, Any]]:
    """Mistral: thoughts and some of the text come as lists of parts, all calls in one delta."""
    yield {"role": "assistant", "content": ""}
    for piece in _pieces(answer.thoughts):
        yield {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": piece}]}]}
    for number, piece in enumerate(_pieces(answer.text)):
        yield {"content": [{"type": "text", "text": piece}] if number % 2 else piece}
    if answer.calls:
        yield {"tool_calls": [{"index": n, **_announced(call, call.arguments)} for n, call in enumerate(answer.calls)]}


def _unnumbered(answer: Answer) -> Iterator[dict[str, Any]]:
    """Small servers: no index, no id, arguments as an object."""
    yield {"role": "assistant", "content": "", "tool_calls": None}
    for piece in _pieces(answer.text):
        yield {"content": piece, "tool_calls": []}
    for call in answer.calls:
        yield {"tool_calls": [{"function": {"name": call.name, "arguments": json.loads(call.arguments)}}]}


def _late_name(answer: Answer) -> Iterator[dict[str, Any]]:
    """A proxy: the id comes first, then the name, then the arguments; later fragments have empty fields."""
    yield {"role": "assistant", "content": None}
    for piece in _pieces(answer.text):
        yield {"content": piece, "function_call": None}
    for number, call in enumerate(answer.calls):
        empty = {"index": str(number), "id": call.id, "type": "function", "function": {"name": "", "arguments": None}}
        yield {"tool_calls": [empty]}
        yield {"tool_calls": [{"index": str(number), "id": "", "function": {"name": call.name, "arguments": ""}}]}
        for piece in _pieces(call.arguments):
            yield {"tool_calls": [{"index": str(number), "id": None, "function": {"name": None, "arguments": piece}}]}


def _add_thoughts(message: dict[str, Any], answer: Answer) -> None:
    message["reasoning_content"] = answer.thoughts


def _add_signature(message: dict[str, Any], answer: Answer) -> None:
    if answer.calls:
        message["tool_calls"][0]["extra_content"] = _signature(answer)


def _split_content(message: dict[str, Any], answer: Answer) -> None:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": answer.thoughts}]}
    message["content"] = [thinking, {"type": "text", "text": answer.text}]


PLAIN = Manner(_plain)
THINKING = Manner(_thinking, complete=_add_thoughts)
SAME_INDEX = Manner(_same_index, complete=_add_signature)
SIGNED = Manner(_signed, complete=_add_signature)
PARTS = Manner(_parts, complete=_split_content)
UNNUMBERED = Manner(_unnumbered, before=b"\xef\xbb\xbf: hello\n\n", between=b"event: ping\ndata:\n\n")
LATE_NAME = Manner(_late_name, between=b": still here\n\n")
WHOLE = Manner(_plain, whole=True)

_USAGE = {"prompt_tokens": 12, "completion_tokens": 8, "total_tokens": 20}


def _announced(call: Call, arguments: str) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _signature(answer: Answer) -> dict[str, Any]:
    return {"google": {"thought_signature": answer.signature}}


def _reason(answer: Answer) -> str:
    return "tool_calls" if answer.calls else "stop"


def _pieces(text: str) -> list[str]:
    return [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)]


def _chunk(choices: list[dict[str, Any]], **fields: Any) -> bytes:
    return _event({**_HEAD, "object": "chat.completion.chunk", "choices": choices, **fields})


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
