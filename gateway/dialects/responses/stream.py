"""Write OpenAI's Responses: a job's events in, response events or one whole response out. Pure.

The translation starts at the job's first event, so that a replay gives the same bytes and numbers at any cut. Not here:
HTTP, time, how a job is read, and the request (request.py).
"""

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gateway.dialects.errors import Failure, body_of, failure_in
from gateway.dialects.responses.fields import own_param
from gateway.dialects.responses.frames import ResponseFrames
from gateway.dialects.responses.object import ResponseOptions, error_of, response_object, tier_of, usage_of
from gateway.dialects.responses.writer import OutputWriter
from shared.model.errors import status_of
from shared.model.events import START, Event, EventType, parse_id

ALL = -1
"""Before the first event: sequence numbers begin at 0."""

_NONE = sys.maxsize
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
_LOST = {
    EventType.ROLLBACK: "The answer was started over after a part of it had been sent; retrieve the response.",
    EventType.GAP: "A part of the answer was lost after it had been sent; retrieve the response.",
}


class ResponseStream:
    """Translate a job into a stream of response events (OpenAI API reference, responses-streaming).

    Only events with a `sequence_number` over `after` are written; all are counted. `shown`: a part of the answer is
    shown. `ended`: no event follows, the body may end. `failure`: the reason of a bad end.
    """

    def __init__(self, options: ResponseOptions, after: int = ALL) -> None:
        self.ended = False
        self.failure: Failure | None = None
        self._options = options
        self._frames = ResponseFrames(after)
        self._writer = OutputWriter(options, self._frames)
        self._epoch = START.epoch
        self._created = False
        self._started = False
        self._end: dict[str, Any] = {}
        self._service_tier: str | None = None

    @property
    def shown(self) -> bool:
        """Return whether a part of the answer has been shown, which can't be taken back."""
        return bool(self._writer.items)

    def response(self) -> dict[str, Any]:
        """Return the response as it now is."""
        first = "queued" if self._options.background and not self._started else "in_progress"
        about = {"status": first, "service_tier": self._service_tier, **self._end}
        return response_object(self._options, **about, output=self._writer.output())

    def translate(self, event: Event) -> bytes:
        """Return the frames for this event; empty if it has none in this dialect."""
        if self.ended:
            return b""
        match event.type:
            case EventType.DELTA:
                if (text := self._writer.plain_text(event.data)) is not None:
                    return self._writer.say(text)
                return self._delta(event.json())
            case EventType.QUEUED:
                return self._create()
            case EventType.STARTED:
                return self._begin_epoch(event) or self._start()
            case EventType.COMPLETED:
                return self._completed(event.json())
            case EventType.FAILED | EventType.CANCELLED | EventType.EXPIRED:
                return self._failed(event)
            case EventType.ROLLBACK | EventType.GAP:
                return self._lost(event.type)
            case _:
                return b""

    def _begin_epoch(self, event: Event) -> bytes:
        former, self._epoch = self._epoch, (event.id or START).epoch
        if self._epoch > former + 1 and self._frames.begin_epoch(self._epoch):
            return self._lost(EventType.GAP, seen=True)
        return b""

    def failure_frame(self) -> bytes:
        """Return nothing: the events have the end already, even if nothing else was shown."""
        return b""

    def interruption(self, failure: Failure) -> bytes:
        """Write the reason why the stream breaks off here, although its job continues."""
        return self._frames.interruption(_error_fields(failure))

    # The beginning and the end.

    def _create(self) -> bytes:
        if self._created:
            return b""
        self._created = True
        frames = self._event("response.created")
        return frames + self._event("response.queued") if self._options.background else frames

    def _start(self) -> bytes:
        if self._started:
            return b""
        created = self._create()
        self._started = True
        return created + self._event("response.in_progress")

    def _completed(self, outcome: Mapping[str, Any]) -> bytes:
        reason = _INCOMPLETE.get(outcome.get("finish_reason") or "")
        status = "completed" if reason is None else "incomplete"
        return self._finish(status, status, reason=reason, usage=usage_of(outcome))

    def _failed(self, event: Event) -> bytes:
        self.failure = _failure_in(event)
        usage = usage_of(event.json())
        if event.type is EventType.CANCELLED:
            # No event has this name: clients know the status only from a response that is incomplete.
            return self._finish("incomplete", "cancelled", usage=usage)
        return self._finish("failed", "failed", error=error_of(self.failure), usage=usage)

    def _finish(self, name: str, status: str, **end: Any) -> bytes:
        frames = self._create()
        frames += self._writer.close("completed" if status == "completed" else "incomplete")
        self.ended = True
        self._end = {"status": status, **end}
        return frames + self._event(f"response.{name}")

    def _lost(self, event: EventType, *, seen: bool = False) -> bytes:
        if not (self.shown or seen):
            self._service_tier = None
            self._writer.forget()
            return b""
        # An event can't be taken back. The response itself continues, so that it has not failed.
        self.ended = True
        self.failure = Failure(code=event.value, message=_LOST[event], status=status_of(event.value), retryable=True)
        return self._frames.event("error", _error_fields(self.failure))

    def _delta(self, delta: Mapping[str, Any]) -> bytes:
        self._service_tier = tier_of(delta) or self._service_tier
        if delta.get("index"):
            return b""  # a response is one answer: the first choice
        return self._start() + self._writer.delta(delta)

    def _event(self, name: str) -> bytes:
        """Write an event that shows the whole response."""
        return self._frames.built(name, lambda: {"response": self.response()})


class WholeResponse:
    """Fold a job into one response. `ended`: no event adds anything. `failure`: the reason of a bad end."""

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
                self.failure = _failure_in(event)
            case _:
                pass
        if event.type not in (EventType.ROLLBACK, EventType.GAP):
            self._events.append(event)

    def body(self) -> dict[str, Any]:
        """Return the response as it now is: as a stream of the surviving events would show it last."""
        stream = ResponseStream(self._options, after=_NONE)
        for event in self._events:
            stream.translate(event)
        return stream.response()

    def _forget_after(self, rollback: Event) -> None:
        to = parse_id(rollback.json()["to"])
        self._events = [each for each in self._events if each.type is not EventType.DELTA or (each.id or START) <= to]


def _error_fields(failure: Failure) -> dict[str, Any]:
    error = body_of(failure)["error"]
    fields = {name: error[name] for name in ("code", "message", "param")}
    # The event's own fields, and again as OpenAI's servers send them: only then does openai-python raise it.
    return {**fields, "error": error}


def _failure_in(event: Event) -> Failure:
    """Read why a job has failed; an upstream names the fields of a chat."""
    failure = failure_in(event)
    return failure if failure.param is None else replace(failure, param=own_param(failure.param))
