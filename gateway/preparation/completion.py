"""Prepare a request of OpenAI's two completion dialects, or the request of a stored answer of one.

Pure. All errors name the field and its valid values. Not here: the fields (gateway/dialects, gateway/admission).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from gateway.dialects.chat.answer_options import AnswerOptions
from gateway.dialects.chat.stream import ChatOptions
from gateway.dialects.chat.stream_request import wants_stream
from gateway.dialects.completions.request import chat_request_of
from gateway.dialects.completions.stream import TextOptions
from gateway.model.json_body import decode_object
from gateway.preparation.request_head import RequestHead
from gateway.specs.job_request import JobRequest
from shared.model.jobs import JobSpec

Options = TypeVar("Options", bound=AnswerOptions)


@dataclass(frozen=True, slots=True)
class PreparedCompletion(Generic[Options]):
    """Hold the spec of a job, and the options with which its answer is shown."""

    spec: JobSpec
    options: Options
    streaming: bool


def prepare_chat(raw: bytes, head: RequestHead) -> PreparedCompletion[ChatOptions]:
    """Prepare a request of `POST /v1/chat/completions` from its body.

    Raises:
        InvalidRequest, Forbidden, ModelNotFound: names the field and its valid values.
    """
    body = decode_object(raw)
    streaming = wants_stream(body)
    return _prepared(head, "chat.completions", ChatOptions, body, body, streaming=streaming)


def prepare_text(raw: bytes, head: RequestHead) -> PreparedCompletion[TextOptions]:
    """Prepare a request of `POST /v1/completions` from its body. Raises as `prepare_chat` does."""
    body = decode_object(raw)
    streaming = wants_stream(body)
    return _prepared(head, "completions", TextOptions, body, chat_request_of(body), streaming=streaming)


def _prepared(
    head: RequestHead,
    route: str,
    options: type[Options],
    body: Mapping[str, Any],
    chat: Mapping[str, Any],
    *,
    streaming: bool,
) -> PreparedCompletion[Options]:
    call = JobRequest(route, chat, body, head.options, head.key, streaming=streaming)
    spec = head.specs.admit(call, head.caller, head.job_id)
    return PreparedCompletion(spec, options.of(spec.id, spec.model, chat), streaming)
