"""Serve OpenAI's legacy completions over ordinary jobs: a prompt is answered as a chat with one message.

Not here: the wire format (dialects/completions).
"""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.admission.job_request import JobRequest
from gateway.admission.request_options import RequestOptions
from gateway.api.completion_calls import CompletionDialect
from gateway.api.openai_errors import OPENAI_PREFIX, openai_error
from gateway.api.services import services_of
from gateway.dialects.chat.stream_request import wants_stream
from gateway.dialects.completions.request import chat_request_of
from gateway.dialects.completions.stream import TextCompletion, TextOptions, TextStream
from gateway.http.bodies import read_json
from gateway.http.errors import Face
from gateway.http.heavy_work import RequestWork

_COMPLETION = CompletionDialect("completion", TextOptions, TextStream, TextCompletion)


async def create(request: Request) -> Response:
    """Serve `POST /v1/completions` (OpenAI API reference, completions/create)."""
    services = services_of(request)
    services.refuse_if_draining()
    caller = services.keyring.caller(request.headers.get("authorization"))
    body = await read_json(request, services.settings.max_body_bytes, services.heavy)
    work = RequestWork.of(services.heavy, request)
    streaming, chat = wants_stream(body), await work.run(chat_request_of, body)
    key, options = request.headers.get("idempotency-key"), RequestOptions.of(request.headers)
    call = JobRequest("completions", chat, body, options, key, streaming=streaming)
    spec = await work.run(services.admission.admit, call, caller)
    if streaming:
        services.open_streams.enter(request.scope, caller.tenant)
    return await _COMPLETION.answer(services, spec, chat, streaming=streaming)


async def resume(request: Request) -> Response:
    """Serve `GET /v1/completions/{id}`: the answer of any chat job, as a text."""
    return await _COMPLETION.resume(request)


face = Face(
    OPENAI_PREFIX,
    openai_error,
    [
        Route("/v1/completions", create, methods=["POST"]),
        Route("/v1/completions/{completion_id}", resume, methods=["GET"]),
    ],
)
