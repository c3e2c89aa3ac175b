"""Write the AI SDK's UI message stream (Vercel's `ai`, protocol v1): a job's events in, parts out. Pure.

Only parts that `ai` 5, 6 and 7 all know are made. The translation starts at the job's first event, so that each replay
gives the same bytes. Not here: HTTP, time, or the browser's request (request.py).
"""

import json
import math
from typing import Any, Final

from gateway.dialects.call_fragments import CallFragment, add_extra, call_fragments
from gateway.dialects.errors import Failure, failure_in
from shared.model.errors import status_of
from shared.model.events import Event, EventType, encode_data

_DONE: Final = b"data: [DONE]\n\n"
_TAIL = b'"}'
_CLOSED = b"\x00"
"""A prefix that no delta has."""
TEXT, REASONING = "text", "reasoning"
# The block that each text of a delta belongs to: a refusal is a text like any other.
_BLOCKS = {"reasoning_content": REASONING, "content": TEXT, "refusal": TEXT}
METADATA: Final = "tailrace"
"""The key of `providerMetadata` under which a call's further fields travel to the page and back."""
CUSTOM: Final = {"type": "custom"}
"""The further field of a custom tool's call."""
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


class _StreamedCall:
    """A tool call that is being made."""

    __slots__ = ("custom", "extra", "id", "name", "pieces")

    def __init__(self, first: CallFragment) -> None:
        self.id = first.id
        self.name = first.name
        self.custom = first.custom
        self.pieces: list[str] = []
        self.extra: dict[str, Any] = dict(CUSTOM) if first.custom else {}


class UiMessageStream:
    """Translate a job into the parts of one assistant's message, of the choice with index 0.

    `shown`: a part of the message has been shown. `ended`: no part follows, the body may end. `failure`: the reason of
    a bad end; if nothing was shown, it has no part, since it may still become an HTTP status.
    """

    def __init__(self, message_id: str) -> None:
        self.shown = False
        self.ended = False
        self.failure: Failure | None = None
        self._message_id = message_id
        self._block_type: str | None = None
        """The type of the block that is open."""
        self._blocks = 0
        self._plain = _CLOSED
        """The beginning of a delta that is one more piece of the open block, up to its text."""
        self._before = b""
        """The beginning of the part for such a delta, up to its text."""
        self._calls: dict[int, _StreamedCall] = {}

    def translate(self, event: Event) -> bytes:
        """Return the parts for this event; empty if it has none in this dialect."""
        if self.ended:
            return b""
        match event.type:
            case EventType.DELTA:
                if text := self._plain_text(event.data):
                    return self._before + text + b'"}\n\n'
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
        """Return the part with the failure if the headers were sent already; else empty."""
        return b"" if self.failure is None else _part("error", errorText=self.failure.message)

    def interruption(self, failure: Failure) -> bytes:
        """Write the reason why the stream breaks off here, although its job continues."""
        return _part("error", errorText=failure.message)

    def _plain_text(self, data: bytes) -> bytes:
        """Return the inside of a delta's JSON string, if the delta is one piece of the open block and nothing else."""
        if not (data.startswith(self._plain) and data.endswith(_TAIL)):
            return b""
        text = data[len(self._plain) : -len(_TAIL)]
        return b"" if b'"' in text else text

    def _delta(self, delta: dict[str, Any]) -> bytes:
        if delta.get("index"):
            return b""  # a message is one answer: the first choice
        parts = [self._words(name, delta[name]) for name in _BLOCKS if name in delta]
        return b"".join([*parts, *map(self._call, call_fragments(delta))])

    def _words(self, name: str, text: object) -> bytes:
        if not isinstance(text, str) or not text:
            return b""
        block_type = _BLOCKS[name]
        opening = b"" if self._block_type == block_type else self._open(block_type, name)
        return opening + _part(f"{block_type}-delta", id=self._block_id(block_type), delta=text)

    def _open(self, block_type: str, name: str) -> bytes:
        head = self._start() + self._close()
        self._block_type = block_type
        self._blocks += 1
        self._plain = b'{"%s":"' % name.encode()
        self._before = _part(f"{block_type}-delta", id=self._block_id(block_type), delta="").removesuffix(b'"}\n\n')
        return head + _part(f"{block_type}-start", id=self._block_id(block_type))

    def _close(self) -> bytes:
        """Write the end of the open block, if there is one."""
        block_type, self._block_type = self._block_type, None
        self._plain = _CLOSED
        return b"" if block_type is None else _part(f"{block_type}-end", id=self._block_id(block_type))

    def _block_id(self, block_type: str) -> str:
        return f"{block_type}-{self._blocks}"

    def _call(self, fragment: CallFragment) -> bytes:
        opening = b""
        if (call := self._calls.get(fragment.number)) is None:
            if not fragment.name:
                return b""
            call = self._calls[fragment.number] = _StreamedCall(fragment)
            opening = self._start() + self._close() + _part("tool-input-start", toolCallId=call.id, toolName=call.name)
        add_extra(call.extra, fragment)
        if not fragment.text:
            return opening
        call.pieces.append(fragment.text)
        return opening + _part("tool-input-delta", toolCallId=call.id, inputTextDelta=fragment.text)

    def _start(self) -> bytes:
        """Write the beginning of the message, unless it has begun."""
        if self.shown:
            return b""
        self.shown = True
        return _part("start", messageId=self._message_id) + _part("start-step")

    def _completed(self, finish_reason: object) -> bytes:
        self.ended = True
        calls = [_whole_call(call) for call in self._calls.values()]
        reason = _FINISH_REASONS.get(str(finish_reason or "stop"), "other")
        end = _part("finish-step") + _part("finish", finishReason=reason) + _DONE
        return self._start() + self._close() + b"".join(calls) + end

    def _cancelled(self) -> bytes:
        """End the message without a failure, because the end was requested."""
        self.ended = True
        return self._close() + _part("abort") + _DONE

    def _lost(self, event: EventType) -> bytes:
        if not self.shown:
            return b""
        # `reset-step` could take it back, and is fatal to `ai` 5 and 6.
        return self._failed(
            Failure(code=event.value, message=_LOST[event], status=status_of(event.value), retryable=True)
        )

    def _failed(self, failure: Failure) -> bytes:
        self.ended = True
        self.failure = failure
        return self.failure_frame() if self.shown else b""


def _part(kind: str, **fields: Any) -> bytes:
    return b"data: %s\n\n" % encode_data({"type": kind, **fields})


def _whole_call(call: _StreamedCall) -> bytes:
    """Write the call with its tool's input; a model may have written arguments that are not JSON."""
    about: dict[str, Any] = {"toolCallId": call.id, "toolName": call.name}
    if call.extra:
        about["providerMetadata"] = {METADATA: call.extra}
    written = "".join(call.pieces)
    if call.custom:
        return _part("tool-input-available", **about, input=written)
    try:
        given = json.loads(written or "{}", parse_constant=_finite, parse_float=_finite)
        return _part("tool-input-available", **about, input=given)
    except (ValueError, RecursionError):
        wrong = "The model wrote arguments that are not JSON."
        return _part("tool-input-error", **about, input=written, errorText=wrong)


def _finite(text: str) -> float:
    if math.isfinite(number := float(text)):
        return number
    raise ValueError(f"{text} is not a JSON number")
