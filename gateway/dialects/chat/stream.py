"""Write OpenAI's chat completions: a job's events in, chunks or one whole completion out. Pure.

A delta has the form that the worker's chunk reader gives it, so that nothing is repaired here. Not here: HTTP, time, or
how a job is read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from gateway.dialects.chat.answer_options import AnswerOptions, choices_of, wants_usage
from gateway.dialects.chat.chunk_stream import ChunkStream
from gateway.dialects.chat.folding import fold_objects
from gateway.dialects.chat.whole_answer import WholeAnswer

# A message that has one of these may do without words; its content is then null.
_WORDLESS = frozenset({"tool_calls", "function_call", "refusal", "audio"})


@dataclass(frozen=True, slots=True)
class ChatOptions(AnswerOptions):
    """The options of a chat. `legacy_functions`: the request has `functions`, so that a call is a `function_call`."""

    PREFIX = "chatcmpl-"

    legacy_functions: bool = False

    @classmethod
    def of(cls, job_id: str, model: str, request: Mapping[str, Any]) -> Self:
        """Read the options from a request."""
        legacy = bool(request.get("functions")) and not request.get("tools")
        return cls(job_id, model, wants_usage(request), choices_of(request), legacy)


class ChatStream(ChunkStream):
    """Translate a job into a stream of `chat.completion.chunk` (OpenAI API reference, chat/streaming)."""

    KIND = "chat.completion.chunk"
    PLAIN = (b'{"content":"', b'{"reasoning_content":"', b'{"refusal":"')
    PART = slice(None)
    HOLE = b'"delta":{}'

    def __init__(self, options: ChatOptions) -> None:
        super().__init__(options)
        self._choices = options.choices
        self._legacy = options.legacy_functions

    def _choice(self, index: int, delta: dict[str, Any]) -> dict[str, Any] | None:
        logprobs = delta.pop("logprobs", None)
        if not delta and logprobs is None:
            return None
        beside = {} if logprobs is None else {"logprobs": logprobs}
        return {
            "index": index,
            "delta": _with_function_call(delta) if self._legacy else delta,
            **beside,
            "finish_reason": None,
        }

    def _finished(self, index: int, reason: str) -> dict[str, Any]:
        return {"index": index, "delta": {}, "finish_reason": _reason(reason, legacy=self._legacy)}

    def _empty(self) -> dict[str, Any]:
        return {"index": 0, "delta": {}, "finish_reason": None}

    def _opening(self, index: int, delta: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the role of this choice, after the roles of the choices before it.

        openai-python's stream helper finds choices by position, so none may overtake another. An index that was not
        requested opens nothing but itself: it could be any number.
        """
        earlier = [i for i in range(index) if i not in self._opened] if index < self._choices else []
        self._opened.update(earlier)
        contents = [*((i, "") for i in earlier), (index, "" if "content" in delta else None)]
        return [
            {"index": i, "delta": {"role": "assistant", "content": content}, "finish_reason": None}
            for i, content in contents
        ]


class ChatCompletion(WholeAnswer):
    """Translate a job into one `chat.completion` (OpenAI API reference, chat/object)."""

    KIND = "chat.completion"

    def __init__(self, options: ChatOptions) -> None:
        super().__init__(options)
        self._legacy = options.legacy_functions

    def _choice(self, index: int, reason: str, deltas: Sequence[dict[str, Any]]) -> dict[str, Any]:
        message = fold_objects(map(_with_function_call, deltas) if self._legacy else deltas)
        logprobs = message.pop("logprobs", None)
        content = message.pop("content", None) or (None if _WORDLESS & message.keys() else "")
        if isinstance(calls := message.get("tool_calls"), list):
            message["tool_calls"] = [_without_index(call) for call in calls]
        return {
            "index": index,
            "message": {"role": "assistant", "content": content, "refusal": None, **message},
            "logprobs": logprobs,
            "finish_reason": _reason(reason, legacy=self._legacy),
        }


def _reason(reason: str, *, legacy: bool) -> str:
    return "function_call" if legacy and reason == "tool_calls" else reason


def _without_index(call: Any) -> Any:
    """Return a whole call: only fragments have an index. A log of an earlier version may hold other things."""
    return {name: value for name, value in call.items() if name != "index"} if isinstance(call, dict) else call


def _with_function_call(delta: dict[str, Any]) -> dict[str, Any]:
    """Return the delta with its first tool call as a `function_call`, which is at most one.

    A model that calls several functions all the same loses none: the further ones stay tool calls.
    """
    if not isinstance(delta.get("tool_calls"), list):
        return delta
    first: list[dict[str, Any]] = []
    further: list[Any] = []
    for call in delta.pop("tool_calls"):
        if not (isinstance(call, dict) and isinstance(call.get("index"), int)):
            further.append(call)  # from a log of an earlier version
        elif call["index"] == 0:
            extra = {name: value for name, value in call.items() if name not in ("index", "id", "type", "function")}
            first.append({**(call.get("function") or {}), **extra})
        else:
            further.append({**call, "index": call["index"] - 1})
    if first:
        delta["function_call"] = fold_objects(first)
    if further:
        delta["tool_calls"] = further
    return delta
