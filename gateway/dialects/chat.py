"""OpenAI's chat completions, as a pure translator: a job's events in, chunks or one whole completion out.

Above: api/chat_completions.py, which reads a job and writes what this returns. Below: the events. Not here:
HTTP, time, or how a job is read; and no model's quirks: what a delta holds is passed on as it came.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.dialects.chunk_id import FRAME_END, numbered
from gateway.dialects.openai_errors import Failure, body_of, failure_in
from shared.errors import status_of
from shared.events import START, Event, EventType, encode_data, parse_id
from shared.jobs import created_ms

_DONE = b"data: [DONE]" + FRAME_END
_HOLE = b'"delta":{}'
_USAGE_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")
_USAGE_DETAILS = ("prompt_tokens_details", "completion_tokens_details")
# What a message can consist of instead of words; its content is then null.
_WORDLESS = frozenset({"tool_calls", "function_call", "refusal", "audio"})
# What a provider may repeat on every fragment of the same thing.
_SAID_ONCE = frozenset({"index", "id", "type", "name", "format"})
_LOST = {
    EventType.ROLLBACK: "The answer was started over after a part of it had been sent; please ask again.",
    EventType.GAP: "A part of the answer was lost after it had been sent; please ask again.",
}


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """What the translation of a job depends on: the job's id, and what the request said.

    `model` is the name the caller used; `choices` is the request's `n`.
    """

    job_id: str
    model: str
    include_usage: bool = False
    choices: int = 1

    def head(self, kind: str) -> dict[str, Any]:
        """How every object of this job begins; `created` is in seconds since the Unix epoch."""
        return {
            "id": "chatcmpl-" + self.job_id.removeprefix("job_"),
            "object": kind,
            "created": created_ms(self.job_id) // 1000,
            "model": self.model,
        }


class ChatStream:
    """A job as a stream of `chat.completion.chunk` (OpenAI API reference, chat/streaming).

    `shown`: a delta has been shown. `ended`: nothing follows any more, the body may end. `failure`: why it ended badly;
    where nothing was shown, no byte tells of it, since it may still become an HTTP status. Each chunk has an SSE id,
    which OpenAI's clients pass over (chunk_id.py); what ends a stream has none: nobody gets past it.
    """

    def __init__(self, options: ChatOptions) -> None:
        self.shown = False
        self.ended = False
        self.failure: Failure | None = None
        self._choices = options.choices
        self._include_usage = options.include_usage
        self._head = options.head("chat.completion.chunk")
        self._tail: dict[str, Any] = {"usage": None} if options.include_usage else {}
        self._opened: set[int] = set()
        # Most deltas fit between these two as they are. There is one hole only: inside a string its quotes
        # would be escaped.
        before, hole, after = self._chunk(_choice(0, {})).partition(_HOLE)
        self._before, self._after = before + hole[:-2], after.removesuffix(FRAME_END)

    def translate(self, event: Event) -> bytes:
        """The frames for this event; empty where it has no word in this dialect."""
        if self.ended:
            return b""
        match event.type:
            case EventType.DELTA:
                if 0 in self._opened and _is_plain(event.data):
                    return b"%s%s%s\nid: %d-%d\n\n" % (self._before, event.data, self._after, *(event.id or START))
                return numbered(self._delta(event.json()), event.id or START)
            case EventType.COMPLETED:
                return numbered(self._completed(event.json()), event.id or START) + _DONE
            case EventType.FAILED | EventType.CANCELLED | EventType.EXPIRED:
                return self._failed(failure_in(event))
            case EventType.ROLLBACK | EventType.GAP if self.shown:
                # A chunk can't be taken back.
                return self._failed(lost(event.type))
            case _:
                return b""

    def failure_frame(self) -> bytes:
        """The frame that tells of the failure, for a caller whose headers went out already; else empty."""
        return b"" if self.failure is None else error_frame(self.failure)

    def _delta(self, delta: dict[str, Any]) -> bytes:
        self.shown = True
        index = delta.pop("index", 0)
        logprobs = delta.pop("logprobs", None)
        delta.pop("role", None)
        opening = self._open(index, "" if "content" in delta else None)
        return opening + self._chunk(_choice(index, delta, logprobs=logprobs))

    def _completed(self, outcome: Mapping[str, Any]) -> bytes:
        self.ended = True
        frames = []
        for index, reason in _finish_reasons(outcome, self._opened).items():
            frames += [self._open(index, ""), self._chunk(_choice(index, {}, reason))]
        if self._include_usage:
            frames.append(_frame({**self._head, "choices": [], "usage": _usage(outcome)}))
        return b"".join(frames)

    def _failed(self, failure: Failure) -> bytes:
        self.ended = True
        self.failure = failure
        return self.failure_frame() if self.shown else b""

    def _open(self, index: int, content: str | None) -> bytes:
        """The role of this choice, unless it was said; the choices before it come first.

        openai-python's stream helper keeps choices by position, so none may overtake another. An index that
        nobody asked for opens nothing but itself: it could be any number.
        """
        if index in self._opened:
            return b""
        earlier = [i for i in range(index) if i not in self._opened] if index < self._choices else []
        self._opened.update(earlier, (index,))
        roles = [_choice(i, {"role": "assistant", "content": ""}) for i in earlier]
        roles.append(_choice(index, {"role": "assistant", "content": content}))
        return b"".join(self._chunk(role) for role in roles)

    def _chunk(self, choice: dict[str, Any]) -> bytes:
        return _frame({**self._head, "choices": [choice], **self._tail})


class ChatCompletion:
    """A job as one `chat.completion` (OpenAI API reference, chat/object).

    `ended`: nothing more needs to be accepted; then there is either a `failure` or a body.
    """

    def __init__(self, options: ChatOptions) -> None:
        self.ended = False
        self.failure: Failure | None = None
        self._head = options.head("chat.completion")
        self._deltas: list[Event] = []
        self._outcome: Mapping[str, Any] | None = None

    def accept(self, event: Event) -> None:
        """Take the job's next event."""
        if self.ended:
            return
        match event.type:
            case EventType.DELTA:
                self._deltas.append(event)
            case EventType.ROLLBACK:
                to = parse_id(event.json()["to"])
                self._deltas = [delta for delta in self._deltas if (delta.id or START) <= to]
            case EventType.GAP:
                self._deltas.clear()
            case EventType.COMPLETED:
                self.ended = True
                self._outcome = event.json()
            case EventType.FAILED | EventType.CANCELLED | EventType.EXPIRED:
                self.ended = True
                self.failure = failure_in(event)
            case _:
                pass

    def text(self) -> str:
        """What the first choice has said so far, in words."""
        texts = (piece.get("content") or piece.get("refusal") for piece in self._pieces().get(0, ()))
        return "".join(text for text in texts if isinstance(text, str))

    def body(self) -> dict[str, Any]:
        """The completion.

        Raises:
            ValueError: the job has not completed.
        """
        if self._outcome is None:
            raise ValueError("Only a completed job has a completion.")
        pieces = self._pieces()
        reasons = _finish_reasons(self._outcome, pieces)
        choices = [_whole_choice(i, reason, _fold_objects(pieces.get(i, []))) for i, reason in reasons.items()]
        return {**self._head, "choices": choices, "usage": _usage(self._outcome)}

    def _pieces(self) -> dict[int, list[dict[str, Any]]]:
        """The deltas of each choice."""
        pieces: dict[int, list[dict[str, Any]]] = {}
        # One call of the parser for all of them costs a fraction of one call for each.
        for delta in json.loads(b"[%s]" % b",".join(delta.data for delta in self._deltas)):
            pieces.setdefault(delta.pop("index", 0), []).append(delta)
        return pieces


def _frame(data: dict[str, Any]) -> bytes:
    return b"data: %s\n\n" % encode_data(data)


def _is_plain(data: bytes) -> bool:
    """Whether a delta needs no change: it has none of these keys, at any depth."""
    return b'"index":' not in data and b'"logprobs":' not in data and b'"role":' not in data


def _choice(
    index: int, delta: dict[str, Any], finish_reason: str | None = None, logprobs: object = None
) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": index, "delta": delta}
    if logprobs is not None:
        choice["logprobs"] = logprobs
    return {**choice, "finish_reason": finish_reason}


def _whole_choice(index: int, finish_reason: str, message: dict[str, Any]) -> dict[str, Any]:
    message.pop("role", None)
    logprobs = message.pop("logprobs", None)
    content = message.pop("content", None) or (None if _WORDLESS & message.keys() else "")
    if isinstance(calls := message.get("tool_calls"), list):
        message["tool_calls"] = [_unnumbered(call) for call in calls]
    return {
        "index": index,
        "message": {"role": "assistant", "content": content, "refusal": None, **message},
        "logprobs": logprobs,
        "finish_reason": finish_reason,
    }


def _unnumbered(call: Any) -> Any:
    """A whole tool call: only fragments have an index."""
    return {name: value for name, value in call.items() if name != "index"} if isinstance(call, dict) else call


def _finish_reasons(outcome: Mapping[str, Any], seen: Collection[int]) -> dict[int, str]:
    """The finish reason of each choice, by index: of those that the outcome names, and of those seen."""
    overall = outcome.get("finish_reason") or "stop"
    named = dict(enumerate(outcome.get("finish_reasons") or [overall]))
    return {index: named.get(index) or overall for index in sorted(named.keys() | set(seen))}


def _usage(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """The usage as OpenAI has it; who counted is ours alone to know."""
    usage = outcome.get("usage") or {}
    counts = {name: usage.get(name, 0) for name in _USAGE_COUNTS}
    return counts | {name: usage[name] for name in _USAGE_DETAILS if usage.get(name) is not None}


def error_frame(failure: Failure) -> bytes:
    """The frame that tells of a failure. It has no id, so that nobody gets past it."""
    return _frame(body_of(failure))


def lost(event: EventType) -> Failure:
    """Why a stream ends at a `rollback` or a `gap`."""
    return Failure(code=event.value, message=_LOST[event], status=status_of(event.value), retryable=True)


def _fold_objects(objects: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Fragments of one object, as the whole; openai-python's `accumulate_delta`, for all of them at once."""
    fragments: dict[str, list[Any]] = {}
    for item in objects:
        for name, value in item.items():
            said = fragments.setdefault(name, [])
            if value is not None:
                said.append(value)
    return {name: _fold(name, said) for name, said in fragments.items()}


def _fold(name: str, said: list[Any]) -> Any:
    """Texts are joined, lists extended, objects folded; of anything else the last word counts."""
    if not said:
        return None
    last = said[-1]
    if name in _SAID_ONCE:
        return next(filter(None, said), last)
    alike = [value for value in said if type(value) is type(last)]
    if isinstance(last, str):
        return "".join(alike)
    if isinstance(last, dict):
        return _fold_objects(alike)
    if isinstance(last, list):
        return _fold_entries(entry for entries in alike for entry in entries)
    return last


def _fold_entries(entries: Iterable[Any]) -> list[Any]:
    """Numbered entries are fragments: those of one index are one entry. The others are whole."""
    numbered: dict[int, list[dict[str, Any]]] = {}
    whole: list[Any] = []
    for entry in entries:
        index = entry.get("index") if isinstance(entry, dict) else None
        if isinstance(index, int):
            numbered.setdefault(index, []).append(entry)
        else:
            whole.append(entry)
    return [_fold_objects(numbered[index]) for index in sorted(numbered)] + whole
