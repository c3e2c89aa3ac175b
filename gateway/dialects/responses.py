"""OpenAI's Responses, as a pure translator: a job's events in, response events or one whole response out.

Above: api/responses.py, which reads a job and writes what this returns. Below: response_object.py and
response_output.py, the events. Everything is folded from the job's first event, so that a replay gives the same bytes
and numbers, wherever it is cut. Not here: HTTP, time, how a job is read, and what was asked (responses_request.py).
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.dialects.openai_errors import Failure, body_of, failure_in
from gateway.dialects.response_object import ResponseOptions, response_object, usage_of
from gateway.dialects.response_output import PARTS, PREFIXES, OutputItem, Part
from shared.errors import status_of
from shared.events import START, Event, EventType, encode_data, parse_id

ALL = -1
"""Before the first event: sequence numbers begin at 0."""

_NONE = sys.maxsize
_PLAIN = b'{"content":"'
# OpenAI's own list of what can be wrong with a response is closed; all else is the server's fault.
_ERROR_CODES = {
    "rate_limit_exceeded": "rate_limit_exceeded",
    "insufficient_quota": "rate_limit_exceeded",
    "invalid_request": "invalid_prompt",
    "context_length_exceeded": "invalid_prompt",
    "content_policy_violation": "invalid_prompt",
}
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
_LOST = {
    EventType.ROLLBACK: "The answer was started over after a part of it had been sent; retrieve the response.",
    EventType.GAP: "A part of the answer was lost after it had been sent; retrieve the response.",
}


class ResponseStream:
    """A job as a stream of response events (OpenAI API reference, responses-streaming).

    Only events with a `sequence_number` over `after` are given; all are counted. `shown`: a part of the answer has been
    shown. `ended`: nothing follows any more, the body may end. `failure`: why it ended badly.
    """

    def __init__(self, options: ResponseOptions, after: int = ALL) -> None:
        self.ended = False
        self.failure: Failure | None = None
        self._options = options
        self._after = after
        self._number = 0
        self._created = False
        self._started = False
        self._items: list[OutputItem] = []
        self._open: OutputItem | None = None
        self._calls: dict[int, OutputItem] = {}
        self._end: dict[str, Any] = {}

    @property
    def shown(self) -> bool:
        """Whether there is something that can't be taken back."""
        return bool(self._items)

    def response(self) -> dict[str, Any]:
        """The response as it now is."""
        first = "queued" if self._options.background and not self._started else "in_progress"
        return response_object(self._options, **{"status": first, **self._end}, output=self._output())

    def translate(self, event: Event) -> bytes:
        """The frames for this event; empty where it has no word in this dialect."""
        if self.ended:
            return b""
        match event.type:
            case EventType.DELTA:
                if (text := _plain_text(event.data)) is not None and self._speaks("content"):
                    return self._say(text)
                return self._delta(event.json())
            case EventType.QUEUED:
                return self._create()
            case EventType.STARTED:
                return self._start()
            case EventType.COMPLETED:
                return self._completed(event.json())
            case EventType.FAILED | EventType.CANCELLED | EventType.EXPIRED:
                return self._failed(event)
            case EventType.ROLLBACK | EventType.GAP if self.shown:
                # An event can't be taken back. The response itself goes on, so that it has not failed.
                return self._lost(event.type)
            case _:
                return b""

    def failure_frame(self) -> bytes:
        """Nothing: of how it ends, its events tell, also where nothing was shown."""
        return b""

    # How it begins and ends.

    def _create(self) -> bytes:
        if self._created:
            return b""
        self._created = True
        frames = self._tell("response.created")
        return frames + self._tell("response.queued") if self._options.background else frames

    def _start(self) -> bytes:
        if self._started:
            return b""
        created = self._create()
        self._started = True
        return created + self._tell("response.in_progress")

    def _completed(self, outcome: Mapping[str, Any]) -> bytes:
        reason = _INCOMPLETE.get(outcome.get("finish_reason") or "")
        status = "completed" if reason is None else "incomplete"
        return self._finish(status, status, reason=reason, usage=usage_of(outcome))

    def _failed(self, event: Event) -> bytes:
        self.failure = failure_in(event)
        usage = usage_of(event.json())
        if event.type is EventType.CANCELLED:
            # There is no event of this name: clients know the status only from a response that is incomplete.
            return self._finish("incomplete", "cancelled", usage=usage)
        code = _ERROR_CODES.get(self.failure.code, "server_error")
        return self._finish("failed", "failed", error={"code": code, "message": self.failure.message}, usage=usage)

    def _finish(self, name: str, status: str, **end: Any) -> bytes:
        frames = self._create()
        frames += self._close("completed" if status == "completed" else "incomplete")
        self.ended = True
        self._end = {"status": status, **end}
        return frames + self._tell(f"response.{name}")

    def _lost(self, event: EventType) -> bytes:
        self.ended = True
        self.failure = Failure(code=event.value, message=_LOST[event], status=status_of(event.value), retryable=True)
        error = body_of(self.failure)["error"]
        fields = {name: error[name] for name in ("code", "message", "param")}
        # The event's own fields, and again as OpenAI's servers send them: only then does openai-python raise it.
        return self._emit("error", {**fields, "error": error})

    # What is said.

    def _delta(self, delta: Mapping[str, Any]) -> bytes:
        if delta.get("index"):
            return b""  # a response is one answer: the first choice
        frames = [self._start()]
        if "reasoning_content" not in delta and "reasoning" in delta:
            delta = {**delta, "reasoning_content": delta["reasoning"]}  # the same under another name
        logprobs = _logprobs(delta)
        for name in PARTS:
            if isinstance(text := delta.get(name), str):
                frames.append(self._open_part(name))
                frames.append(self._say(encode_data(text)[1:-1], logprobs if name == "content" else ()))
        calls = delta.get("tool_calls")
        fragments = calls if isinstance(calls, list) else ()
        frames += [self._call(fragment) for fragment in fragments if isinstance(fragment, dict)]
        return b"".join(frames)

    def _speaks(self, name: str) -> bool:
        return self._open is not None and self._open.parts[-1].name == name

    def _open_part(self, name: str) -> bytes:
        if self._speaks(name):
            return b""
        frames = b""
        item_type = PARTS[name][0]
        if self._open is None or self._open.type != item_type:
            frames += self._close_spoken("completed")
            self._open, added = self._add(item_type)
            frames += added
        else:
            frames += self._close_part(self._open)
        item = self._open
        part = Part(name, item.id, item.index, len(item.parts))
        item.parts.append(part)
        return frames + self._emit("response.content_part.added", {**part.place, "part": part.empty})

    def _say(self, text: bytes, logprobs: Sequence[Any] = ()) -> bytes:
        """A piece of the open part; `text` is what stands between the quotes of its JSON."""
        assert self._open is not None  # noqa: S101  # the callers have opened it
        return self._add_piece(self._open.parts[-1], text, logprobs)

    def _call(self, fragment: Mapping[str, Any]) -> bytes:
        function = fragment.get("function")
        function = function if isinstance(function, dict) else {}
        frames = b""
        number = self._call_number(fragment)
        if (item := self._calls.get(number)) is None:
            frames = self._close_spoken("completed")
            item, added = self._add("function_call", fragment.get("id"), function.get("name"))
            self._calls[number] = item
            frames += added
        if isinstance(arguments := function.get("arguments"), str) and arguments:
            frames += self._add_piece(item.parts[0], encode_data(arguments)[1:-1], ())
        return frames

    def _call_number(self, fragment: Mapping[str, Any]) -> int:
        if isinstance(number := fragment.get("index"), int):
            return number
        # Some upstreams don't count: an id begins a call, what has none goes on with the last.
        return len(self._calls) if fragment.get("id") else max(len(self._calls) - 1, 0)

    def _add(self, item_type: str, call_id: object = None, name: object = None) -> tuple[OutputItem, bytes]:
        index = len(self._items)
        item = OutputItem(f"{PREFIXES[item_type]}_{self._options.bare_id}_{index}", index, item_type)
        if item_type == "function_call":
            item.call_id = call_id if isinstance(call_id, str) else f"call_{self._options.bare_id}_{index}"
            item.name = name if isinstance(name, str) else ""
            item.parts.append(Part("arguments", item.id, index, None))
        self._items.append(item)
        return item, self._emit("response.output_item.added", {"output_index": index, "item": item.as_dict()})

    def _add_piece(self, part: Part, text: bytes, logprobs: Sequence[Any]) -> bytes:
        part.pieces.append(text)
        part.logprobs += logprobs
        number = self._number
        self._number += 1
        if number <= self._after:
            return b""
        before, middle, after = part.template
        if logprobs:
            after = b'","logprobs":%s}\n\n' % encode_data(logprobs)
        return b"%s%d%s%s%s" % (before, number, middle, text, after)

    # What has been said.

    def _close_part(self, item: OutputItem) -> bytes:
        part = item.parts[-1]
        done = self._emit(part.stem + ".done", part.done())
        if part.content_index is None:
            return done
        return done + self._emit("response.content_part.done", {**part.place, "part": part.as_dict()})

    def _close_item(self, item: OutputItem, status: str) -> bytes:
        frames = self._close_part(item)
        item.status = status
        return frames + self._emit("response.output_item.done", {"output_index": item.index, "item": item.as_dict()})

    def _close_spoken(self, status: str) -> bytes:
        item, self._open = self._open, None
        return b"" if item is None else self._close_item(item, status)

    def _close(self, status: str) -> bytes:
        # Calls stay open to the end, since an upstream may give them in turns; what is spoken may stand before them.
        spoken = self._close_spoken(status)
        return spoken + b"".join(self._close_item(item, status) for item in self._calls.values())

    def _output(self) -> list[dict[str, Any]]:
        return [item.as_dict() for item in self._items]

    # Frames.

    def _tell(self, name: str) -> bytes:
        """A frame that shows the whole response."""
        if self._number <= self._after:
            self._number += 1
            return b""
        return self._emit(name, {"response": self.response()})

    def _emit(self, name: str, data: Mapping[str, Any]) -> bytes:
        number = self._number
        self._number += 1
        if number <= self._after:
            return b""
        payload = encode_data({"type": name, "sequence_number": number, **data})
        return b"event: %s\ndata: %s\n\n" % (name.encode(), payload)


class WholeResponse:
    """A job as one response. `ended`: nothing more needs to be accepted. `failure`: why it ended badly."""

    def __init__(self, options: ResponseOptions) -> None:
        self.ended = False
        self.failure: Failure | None = None
        self._options = options
        self._events: list[Event] = []

    def accept(self, event: Event) -> None:
        """Take the job's next event."""
        if self.ended:
            return
        match event.type:
            case EventType.ROLLBACK:
                self._forget_after(event)
            case EventType.GAP:
                self._events = [each for each in self._events if each.type is not EventType.DELTA]
            case EventType.COMPLETED:
                self.ended = True
            case EventType.FAILED | EventType.CANCELLED | EventType.EXPIRED:
                self.ended = True
                self.failure = failure_in(event)
            case _:
                pass
        if event.type not in (EventType.ROLLBACK, EventType.GAP):
            self._events.append(event)

    def body(self) -> dict[str, Any]:
        """The response as it now is: what a stream of the surviving events would show last."""
        stream = ResponseStream(self._options, after=_NONE)
        for event in self._events:
            stream.translate(event)
        return stream.response()

    def _forget_after(self, rollback: Event) -> None:
        to = parse_id(rollback.json()["to"])
        self._events = [each for each in self._events if each.type is not EventType.DELTA or (each.id or START) <= to]


def _plain_text(data: bytes) -> bytes | None:
    """What stands between the quotes of a delta that is one short text and nothing else; None for any other."""
    if data.startswith(_PLAIN) and data.find(b'"', len(_PLAIN)) == len(data) - 2:
        return data[len(_PLAIN) : -2]
    return None


def _logprobs(delta: Mapping[str, Any]) -> list[Any]:
    logprobs = delta.get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    return content if isinstance(content, list) else []
