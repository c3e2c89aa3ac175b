"""Read the stored request of a job, and its log, as one of the dialects shows them. Pure: bytes in, values or JSON out.

Not here: how they are loaded (gateway/api), and the dialects themselves (gateway/dialects).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from gateway.dialects.chat.answer_options import AnswerOptions
from gateway.dialects.responses.input_items import items_of
from gateway.dialects.responses.item_ids import Item
from gateway.dialects.responses.object import ResponseOptions
from gateway.dialects.responses.request import said_before
from gateway.dialects.responses.stream import WholeResponse
from gateway.dialects.responses.tools import ToolNames
from shared.model.events import decode_frame, encode_data, split_frames
from shared.model.jobs import Job
from shared.model.stored_request import parse_request

Options = TypeVar("Options", bound=AnswerOptions)


def completion_options(request: bytes, options: type[Options], job_id: str, model: str) -> Options:
    """Read the options with which a job is shown as a completion. Raises BrokenJob: the request can't be read."""
    chat, _ = parse_request(request)
    return options.of(job_id, model, chat)


@dataclass(frozen=True, slots=True)
class KeptFields:
    """Hold the fields of a stored request that a response repeats.

    `has_messages`: its messages are stored, too. Those of a job without an answer may not be.
    """

    echo: Mapping[str, Any]
    has_messages: bool


def kept_fields(request: bytes) -> KeptFields:
    """Read the fields that a response repeats. Raises BrokenJob: the request can't be read."""
    chat, echo = parse_request(request)
    return KeptFields(echo, "messages" in chat)


def options_of(job: Job, echo: Mapping[str, Any]) -> ResponseOptions:
    """Return everything that the translation of a job into a response depends on."""
    # A job that was not a response counts as a background one if it continues without its caller.
    background = bool(echo.get("background", job.background))
    return ResponseOptions(job.id, job.model, background, job.metadata, echo)


def whole_response(options: ResponseOptions, frames: bytes) -> dict[str, Any]:
    """Return the response of an ended job from all frames of its log."""
    whole = WholeResponse(options)
    for frame in split_frames(frames):
        whole.accept(decode_frame(frame))
    return whole.body()


def encoded_response(options: ResponseOptions, frames: bytes) -> bytes:
    """Return the same as JSON."""
    return encode_data(whole_response(options, frames))


def encoded_output(options: ResponseOptions, frames: bytes) -> bytes:
    """Return the output items of a response as JSON."""
    return encode_data(whole_response(options, frames)["output"])


def listed_input(request: bytes, job_id: str) -> list[Item]:
    """Return the model's input as items, without the instructions. Raises BrokenJob: the request can't be read."""
    chat, echo = parse_request(request)
    return items_of(said_before(chat.get("messages", ()), echo), job_id, ToolNames.of(echo))
