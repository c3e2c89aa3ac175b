"""The AI SDK's UI message stream (Vercel's `ai`, protocol v1), as a pure translator: a job's events in, parts out.

Above: api/ui_chat.py, which reads a job and writes what this returns. Below: the events. Only parts that `ai` 5, 6 and
7 all know are made. It starts at the job's first event, so that each replay gives the same bytes. Not here: HTTP, time,
or what the browser asked (ui_request.py).
"""

import json
import math
from dataclasses import dataclass
from typing import Any, Final

from gateway.dialects.openai_errors import Failure, failure_in
from shared.errors import status_of
from shared.events import Event, EventType, encode_data

_DONE: Final = b"data: [DONE]\n\n"
_PLAIN_HEAD, _PLAIN_TAIL = b'{"content":"', b'"}'
TEXT, REASONING = "text", "reasoning"
# What providers call the words of their models' thoughts.
_REASONING = ("reasoning_content", "reasoning")
# What a model says in words: a refusal is one.
_TEXT = ("content", "refusal")
_FINISH_REASONS = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content-filter",
    "tool_calls": "tool-calls",
    "function_call": "tool-calls",
}
_LOST = {
    EventType.ROLLBACK: "The answer was started over after a part of it had been shown; please ask again.",
    EventType.GAP: "A part of the answer was lost after it had been shown; please ask again.",
}


@dataclass(slots=True)
class _Call:
    """A tool call that is being made. It is `announced` once its name is known."""

    id: str
    name: str = ""
    arguments: str = ""
    announced: bool = False


class UiMessageStream:
    """A job as the parts of one assistant's message, of the choice with index 0.

    `shown`: a part of the message has been shown. `ended`: nothing follows any more, the body may end. `failure`: why
    it ended badly; where nothing was shown, no byte tells of it, since it may still become an HTTP status.
    """

    def __init__(self, message_id: str) -> None:
        self.shown = False
        self.ended = False
        self.failure: Failure | None = None
        self._message_id = message_id
        self._kind: str | None = None
        """Of the block of words that is open."""
        self._blocks = 0
        self._before = b""
        """What a delta of the open block of text begins with, up to its words."""
        self._calls: dict[int, _Call] = {}
        self._done_calls: list[_Call] = []

    def translate(self, event: Event) -> bytes:
        """The parts for this event; empty where it has no word in this dialect."""
        if self.ended:
            return b""
        match event.type:
            case EventType.DELTA:
                if self._kind == TEXT and (words := _plain_words(event.data)):
                    return self._before + words + b'"}\n\n'
                return self._delta(event.json())
            case EventType.COMPLETED:
                return self._completed(event.json().get("finish_reason"))
            case EventType.CANCELLED:
                return self._cancelled()
            case EventType.FAILED | EventType.EXPIRED:
                return self._failed(failure_in(event))
            case EventType.ROLLBACK | EventType.GAP:
                return self._lost(event.type)
            case _:
                return b""

    def failure_frame(self) -> bytes:
        """The part that tells of the failure, for a caller whose headers went out already; else empty."""
        return b"" if self.failure is None else _part("error", errorText=self.failure.message)

    def _delta(self, delta: dict[str, Any]) -> bytes:
        if delta.get("index"):
            return b""  # a message has one voice
        parts = [self._words(kind, delta, names) for kind, names in ((REASONING, _REASONING), (TEXT, _TEXT))]
        calls = delta.get("tool_calls")
        fragments = calls if isinstance(calls, list) else ()
        return b"".join([*parts, *(self._call(each) for each in fragments if isinstance(each, dict))])

    def _words(self, kind: str, delta: dict[str, Any], names: tuple[str, ...]) -> bytes:
        words = next((delta[name] for name in names if isinstance(delta.get(name), str) and delta[name]), None)
        if words is None:
            return b""
        opening = b"" if self._kind == kind else self._open(kind)
        return opening + _part(f"{kind}-delta", id=self._block_id(kind), delta=words)

    def _open(self, kind: str) -> bytes:
        head = self._start() + self._close()
        self._kind = kind
        self._blocks += 1
        before = _part("text-delta", id=self._block_id(TEXT), delta="")
        self._before = before.removesuffix(b'"}\n\n')
        return head + _part(f"{kind}-start", id=self._block_id(kind))

    def _close(self) -> bytes:
        """The end of the open block of words, if there is one."""
        kind, self._kind = self._kind, None
        return b"" if kind is None else _part(f"{kind}-end", id=self._block_id(kind))

    def _block_id(self, kind: str) -> str:
        return f"{kind}-{self._blocks}"

    def _call(self, fragment: dict[str, Any]) -> bytes:
        call = self._call_of(fragment)
        function = fragment.get("function")
        given = function if isinstance(function, dict) else {}
        arguments = given.get("arguments")
        new = arguments if isinstance(arguments, str) else ""
        call.arguments += new
        if not call.announced:
            name = given.get("name")
            call.name = call.name or (name if isinstance(name, str) else "")
            if not call.name:
                return b""
            call.announced = True
            new = call.arguments
            opening = self._start() + self._close() + _part("tool-input-start", toolCallId=call.id, toolName=call.name)
        else:
            opening = b""
        return opening + (_part("tool-input-delta", toolCallId=call.id, inputTextDelta=new) if new else b"")

    def _call_of(self, fragment: dict[str, Any]) -> _Call:
        """The call that this fragment belongs to. Some providers give all calls the same index, and each its id."""
        index = fragment.get("index")
        number = index if isinstance(index, int) else 0
        given = fragment.get("id")
        given = given if isinstance(given, str) and given else None
        call = self._calls.get(number)
        if call is None or (given is not None and given != call.id):
            if call is not None:
                self._done_calls.append(call)
            call = self._calls[number] = _Call(given or f"call_{len(self._done_calls) + len(self._calls)}")
        return call

    def _start(self) -> bytes:
        """How the message begins, unless it has begun."""
        if self.shown:
            return b""
        self.shown = True
        return _part("start", messageId=self._message_id) + _part("start-step")

    def _completed(self, finish_reason: object) -> bytes:
        self.ended = True
        calls = [_whole_call(call) for call in (*self._done_calls, *self._calls.values()) if call.announced]
        reason = _FINISH_REASONS.get(str(finish_reason or "stop"), "other")
        end = _part("finish-step") + _part("finish", finishReason=reason) + _DONE
        return self._start() + self._close() + b"".join(calls) + end

    def _cancelled(self) -> bytes:
        """An end that was asked for is no failure."""
        self.ended = True
        return self._close() + _part("abort") + _DONE

    def _lost(self, event: EventType) -> bytes:
        if self.shown:
            # `reset-step` could take it back, and is fatal to `ai` 5 and 6.
            return self._failed(
                Failure(code=event.value, message=_LOST[event], status=status_of(event.value), retryable=True)
            )
        self._calls.clear()
        return b""

    def _failed(self, failure: Failure) -> bytes:
        self.ended = True
        self.failure = failure
        return self.failure_frame() if self.shown else b""


def _part(kind: str, **fields: Any) -> bytes:
    return b"data: %s\n\n" % encode_data({"type": kind, **fields})


def _plain_words(data: bytes) -> bytes:
    """The words of a delta that has nothing else, as they stand in its JSON; empty for any other delta."""
    if not (data.startswith(_PLAIN_HEAD) and data.endswith(_PLAIN_TAIL)):
        return b""
    words = data[len(_PLAIN_HEAD) : -len(_PLAIN_TAIL)]
    return b"" if b'"' in words else words


def _whole_call(call: _Call) -> bytes:
    """What its tool is called with; a model may have written what is no JSON."""
    about = {"toolCallId": call.id, "toolName": call.name}
    try:
        given = json.loads(call.arguments or "{}", parse_constant=_finite, parse_float=_finite)
        return _part("tool-input-available", **about, input=given)
    except (ValueError, RecursionError):
        wrong = "The model wrote arguments that are no JSON."
        return _part("tool-input-error", **about, input=call.arguments, errorText=wrong)


def _finite(text: str) -> float:
    if math.isfinite(number := float(text)):
        return number
    raise ValueError(f"{text} is no JSON number")
