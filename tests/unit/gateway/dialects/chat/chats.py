"""Events of a chat job, and readings of the chunks and messages that they become, for the tests of this folder."""

import json
from typing import Any

from gateway.dialects.chat.stream import ChatCompletion, ChatOptions, ChatStream
from shared.model.events import Event, EventId, EventType, encode_data
from shared.model.jobs import new_job_id

CREATED_S = 1_700_000_000
JOB = new_job_id(CREATED_S * 1000 + 321, 42)
ANSWER = "chatcmpl-" + JOB.removeprefix("job_")
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
ERROR = {"type": "provider_error", "code": "provider_overloaded", "message": "Too busy.", "retryable": True}
QUEUED = Event(EventType.QUEUED, EventId(0, 1), b'{"job":"x","lane":"default","position":1}')
STARTED = Event(EventType.STARTED, EventId(1, 1), b'{"attempt":1,"model":"m","provider":"p","resumed_from":null}')
PROGRESS = Event(EventType.PROGRESS, EventId(1, 2), b'{"done":1,"total":2,"message":"half"}')
GAP = Event(EventType.GAP, None, b'{"requested":"3-9","earliest":"0-1","latest":"2-4"}')


def delta(data: dict[str, Any], epoch: int = 1, seq: int = 2) -> Event:
    return Event(EventType.DELTA, EventId(epoch, seq), encode_data(data))


def first(index: int, name: str, arguments: str = "") -> dict[str, Any]:
    """Build the first fragment of a tool call."""
    function = {"name": name, "arguments": arguments}
    return {"index": index, "id": f"call_{index}", "type": "function", "function": function}


def more(index: int, arguments: str) -> dict[str, Any]:
    """Build a later fragment of a tool call."""
    return {"index": index, "function": {"arguments": arguments}}


def completed(*reasons: str | None, **more: Any) -> Event:
    data = {
        "finish_reason": reasons[0],
        "finish_reasons": list(reasons),
        "usage": USAGE | {"source": "provider"},
    }
    return Event(EventType.COMPLETED, EventId(1, 9), encode_data(data | more))


def rollback(to: str) -> Event:
    return Event(EventType.ROLLBACK, EventId(2, 1), encode_data({"to": to, "reason": "worker_lost"}))


def ended(event: EventType, error: dict[str, Any] | None = None) -> Event:
    return Event(event, EventId(1, 9), encode_data({"error": error or ERROR, "usage": None, "events": 9}))


def stream(include_usage: bool = False, choices: int = 1, legacy: bool = False) -> ChatStream:
    return ChatStream(ChatOptions(JOB, "fast", include_usage, choices, legacy))


def said(frames: bytes) -> list[Any]:
    """Decode the data of frames; `[DONE]` stays as it is."""
    assert frames == b"" or frames.endswith(b"\n\n")
    lines = [frame.split(b"\n") for frame in frames.split(b"\n\n") if frame]
    assert all(data.startswith(b"data: ") and all(line.startswith(b"id: ") for line in rest) for data, *rest in lines)
    payloads = [data.removeprefix(b"data: ") for data, *_ in lines]
    return [json.loads(payload) if payload != b"[DONE]" else "[DONE]" for payload in payloads]


def choices_of(frames: bytes) -> list[dict[str, Any]]:
    return [choice for chunk in said(frames) if chunk != "[DONE]" for choice in chunk["choices"]]


def completion(*events: Event, legacy: bool = False) -> ChatCompletion:
    whole = ChatCompletion(ChatOptions(JOB, "fast", legacy_functions=legacy))
    for event in events:
        whole.accept(event)
    return whole


def message(*deltas: dict[str, Any]) -> dict[str, Any]:
    events = [delta(data, seq=seq) for seq, data in enumerate(deltas, 1)]
    folded: dict[str, Any] = completion(*events, completed("stop")).body()["choices"][0]["message"]
    return folded
