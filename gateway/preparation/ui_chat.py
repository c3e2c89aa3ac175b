"""Prepare a request of the AI SDK's `useChat`. Pure. Not here: the fields (gateway/dialects/ai_sdk)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway.dialects.ai_sdk.request import Turn, UiRequest, read_ui_request
from gateway.dialects.chat.stream import ChatCompletion, ChatOptions
from gateway.model.json_body import decode_object, decode_optional_object
from gateway.preparation.request_head import RequestHead
from gateway.specs.job_request import JobRequest
from shared.model.errors import BrokenJob, InvalidRequest
from shared.model.events import decode_frame, split_frames
from shared.model.jobs import Job, JobSpec, OnDisconnect
from shared.model.stored_request import parse_request

CHAT_ID, MESSAGE_ID = "chat_id", "message_id"
"""The names in a job's metadata of its chat, and of the message that it answers with."""
_STREAM_ID: Final = "activeStreamId"


@dataclass(frozen=True, slots=True)
class UiFacts:
    """Hold the facts of a request that decide what is read for it.

    `whole`: it has the whole conversation. `names_model`: no default is needed.
    """

    chat_id: str
    whole: bool
    names_model: bool


@dataclass(frozen=True, slots=True)
class ChatHistory:
    """Hold a conversation so far: the job that ended it, its stored request, its log, and its turns.

    A turn is the id of a message of the page, and the number of a chat's messages that it has become.
    """

    job: Job
    request: bytes
    frames: bytes
    turns: Sequence[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class PreparedTurn:
    """Hold the spec of the job that gives the next answer, and the turns that lead to it."""

    spec: JobSpec
    turns: Sequence[tuple[str, int]]


def read_facts(raw: bytes) -> UiFacts:
    """Read the facts of a request. Raises InvalidRequest: names the field and its valid values."""
    asked = read_ui_request(decode_object(raw))
    return UiFacts(asked.chat_id, asked.whole, bool(asked.parameters.get("model")))


def read_stop(raw: bytes, header: str) -> str | None:
    """Read the job that a request to stop names, if any, as it is in this header of the answer.

    Raises:
        InvalidRequest: names the field and its valid values.
    """
    job_id = decode_optional_object(raw).get(_STREAM_ID)
    if job_id is not None and not isinstance(job_id, str):
        raise InvalidRequest(f"{_STREAM_ID} must be the job id in the header {header} of the answer.", param=_STREAM_ID)
    return job_id


def prepare_turn(raw: bytes, head: RequestHead, model: str, former: ChatHistory | None) -> PreparedTurn:
    """Make the spec of the next answer. `model` is the default one; the `former` turns precede a partial request.

    Raises:
        InvalidRequest, Forbidden, ModelNotFound: names the field and its valid values.
    """
    asked = read_ui_request(decode_object(raw))
    turns = _with_system(asked.system, asked.after([] if former is None else _turns_of(former)))
    call = JobRequest(
        "ai_sdk.chat",
        _chat(asked, model, turns),
        {},
        head.options,
        on_disconnect=OnDisconnect.CONTINUE,
        metadata={CHAT_ID: asked.chat_id, MESSAGE_ID: asked.message_id(head.job_id)},
        continued=True,
    )
    spec = head.specs.admit(call, head.caller, head.job_id)
    return PreparedTurn(spec, [(turn.id, len(turn.messages)) for turn in turns])


def not_stored() -> InvalidRequest:
    """Make the error for a partial request after its conversation has expired."""
    return InvalidRequest(
        "messages must hold the whole conversation: its earlier messages are no longer stored.", param="messages"
    )


def _chat(asked: UiRequest, model: str, turns: Sequence[Turn]) -> dict[str, Any]:
    messages = [message for turn in turns for message in turn.messages]
    return {**asked.parameters, "model": asked.parameters.get("model") or model, "messages": messages}


def _turns_of(former: ChatHistory) -> list[Turn]:
    try:
        request, _ = parse_request(former.request)
    except BrokenJob:
        raise not_stored() from None
    messages = iter(request["messages"])
    turns = [Turn(message_id, [next(messages) for _ in range(size)]) for message_id, size in former.turns]
    return [*turns, Turn(former.job.metadata[MESSAGE_ID], _answer(former))]


def _answer(former: ChatHistory) -> list[Mapping[str, Any]]:
    """Return the message that a job has given, if any. The page sends tool calls together with their results."""
    completion = ChatCompletion(ChatOptions(former.job.id, former.job.model))
    for frame in split_frames(former.frames):
        completion.accept(decode_frame(frame))
    message = completion.message()
    return [] if message is None else [message]


def _with_system(system: str | None, turns: Sequence[Turn]) -> list[Turn]:
    if system is None:
        return list(turns)
    return [Turn("", [{"role": "system", "content": system}]), *(turn for turn in turns if not _is_system(turn))]


def _is_system(turn: Turn) -> bool:
    """Return whether this is the system turn that an app set beside the page's messages: it has no id."""
    return not turn.id and [message["role"] for message in turn.messages] == ["system"]
