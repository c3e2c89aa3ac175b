"""OpenAI's chat completions over ordinary jobs: the caller's connection is the job's life line.

Above: app.py. Below: admission, foreground.py, which answers, and dialects/chat.py. Whoever was cut off comes back with
the job's id. Not here: the wire format.
"""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.api.bodies import read_json
from gateway.api.foreground import Foreground
from gateway.api.jobs import JOB_HEADER, own_job
from gateway.api.services import services_of
from gateway.dialects.chat import ChatCompletion, ChatOptions, ChatStream
from gateway.dialects.chunk_id import ChunkId, parse_chunk_id
from gateway.dialects.resumed_chat import ResumedChat
from gateway.wishes import Wishes
from shared.errors import BadCursor, InvalidRequest, JobNotFound
from shared.jobs import CHAT

_PREFIX = "chatcmpl-"


async def create(request: Request) -> Response:
    """`POST /v1/chat/completions`."""
    services = services_of(request)
    services.refuse_if_draining()
    caller = services.keyring.caller(request.headers.get("authorization"))
    body = await read_json(request, services.settings.max_body_bytes)
    streaming, include_usage = _stream_options(body)
    key = request.headers.get("idempotency-key")
    spec = services.admission.chat(body, caller, key, wishes=Wishes.of(request.headers), streaming=streaming)
    job = await services.admission.submit(spec)
    options = ChatOptions(job.id, job.model, include_usage, body.get("n") or 1)
    whole, counted = ChatCompletion(options), job.id == spec.id
    return Foreground(services, job, ChatStream(options), whole, streaming=streaming, counted=counted)


async def resume(request: Request) -> Response:
    """`GET /v1/chat/completions/{id}`: the answer of any job that chats; as a stream, from where its reader stopped."""
    services = services_of(request)
    services.refuse_if_draining()
    caller = services.keyring.caller(request.headers.get("authorization"))
    name: str = request.path_params["completion_id"]
    job_id = "job_" + name.removeprefix(_PREFIX) if name.startswith(_PREFIX) else name
    job = await own_job(services, caller, job_id, called=f"chat completion {name}")
    if job.kind != CHAT:
        raise JobNotFound(f"There is no chat completion {name}.")
    streaming, cursor = _cursor(request)
    if cursor is not None and cursor.event > job.last:
        raise BadCursor("starting_after is a chunk that this answer does not have.", param="starting_after")
    if request.method == "HEAD":
        return Response(headers={JOB_HEADER: job.id})
    body = await services.store.request(job.id)
    options = ChatOptions(job.id, job.model, _wants_usage(body), body.get("n") or 1)
    services.metrics.resumes.of().add(cursor is not None)
    translator = ChatStream(options) if cursor is None else ResumedChat(options, cursor)
    return Foreground(services, job, translator, ChatCompletion(options), streaming=streaming)


def _cursor(request: Request) -> tuple[bool, ChunkId | None]:
    """Whether to stream, and after which chunk."""
    stream = request.query_params.get("stream", "false")
    if stream not in ("true", "false"):
        raise InvalidRequest("stream must be true or false.", param="stream")
    after = request.query_params.get("starting_after")
    if after is not None and stream == "false":
        raise InvalidRequest("starting_after is only allowed when stream is true.", param="starting_after")
    cursor = request.headers.get("last-event-id") if after is None else after
    return stream == "true", parse_chunk_id(cursor) if cursor else None


def _wants_usage(body: dict[str, Any]) -> bool:
    options = body.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def _stream_options(body: dict[str, Any]) -> tuple[bool, bool]:
    streaming = body.get("stream")
    if streaming is not None and not isinstance(streaming, bool):
        raise InvalidRequest("stream must be true or false.", param="stream")
    options = body.get("stream_options")
    if options is None:
        return bool(streaming), False
    if not isinstance(options, dict):
        raise InvalidRequest("stream_options must be an object.", param="stream_options")
    if not streaming:
        raise InvalidRequest("stream_options is only allowed when stream is true.", param="stream_options")
    include_usage = options.get("include_usage", False)
    if include_usage is not None and not isinstance(include_usage, bool):
        raise InvalidRequest(
            "stream_options.include_usage must be true or false.", param="stream_options.include_usage"
        )
    return True, bool(include_usage)


routes = [
    Route("/v1/chat/completions", create, methods=["POST"]),
    Route("/v1/chat/completions/{completion_id}", resume, methods=["GET"]),
]
