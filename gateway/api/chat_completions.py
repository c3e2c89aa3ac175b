"""Serve OpenAI's chat completions over ordinary jobs. Not here: the wire format (dialects/chat)."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.admission.job_request import JobRequest
from gateway.admission.request_options import RequestOptions
from gateway.api.completion_calls import CompletionDialect
from gateway.api.openai_errors import OPENAI_PREFIX, openai_error
from gateway.api.services import services_of
from gateway.dialects.chat.stream import ChatCompletion, ChatOptions, ChatStream
from gateway.dialects.chat.stream_request import wants_stream
from gateway.http.bodies import read_json
from gateway.http.errors import Face
from gateway.http.heavy_work import RequestWork

_CHAT = CompletionDialect("chat completion", ChatOptions, ChatStream, ChatCompletion)


async def create(request: Request) -> Response:
    """Serve `POST /v1/chat/completions`."""
    services = services_of(request)
    services.refuse_if_draining()
    caller = services.keyring.caller(request.headers.get("authorization"))
    body = await read_json(request, services.settings.max_body_bytes, services.heavy)
    work, streaming = RequestWork.of(services.heavy, request), wants_stream(body)
    key = request.headers.get("idempotency-key")
    options = RequestOptions.of(request.headers)
    call = JobRequest("chat.completions", body, body, options, key, streaming=streaming)
    spec = await work.run(services.admission.admit, call, caller)
    if streaming:
        services.open_streams.enter(request.scope, caller.tenant)
    return await _CHAT.answer(services, spec, body, streaming=streaming)


async def resume(request: Request) -> Response:
    """Serve `GET /v1/chat/completions/{id}`: the answer of any chat job."""
    return await _CHAT.resume(request)


face = Face(
    OPENAI_PREFIX,
    openai_error,
    [
        Route("/v1/chat/completions", create, methods=["POST"]),
        Route("/v1/chat/completions/{completion_id}", resume, methods=["GET"]),
    ],
)
