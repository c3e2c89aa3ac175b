"""Serve OpenAI's legacy completions over ordinary jobs: a prompt is answered as a chat with one message.

Not here: the wire format (dialects/completions).
"""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.api.completion_calls import CompletionDialect
from gateway.api.incoming import Incoming
from gateway.api.openai_errors import OPENAI_PREFIX, openai_error
from gateway.api.services import services_of
from gateway.dialects.completions.stream import TextCompletion, TextOptions, TextStream
from gateway.http.errors import Face
from gateway.preparation.completion import prepare_text

_COMPLETION = CompletionDialect("completion", TextOptions, TextStream, TextCompletion)


async def create(request: Request) -> Response:
    """Serve `POST /v1/completions` (OpenAI API reference, completions/create)."""
    services = services_of(request)
    incoming = await Incoming.receive(request, services)
    prepared = await incoming.prepare(prepare_text)
    if prepared.streaming:
        services.open_streams.enter(request.scope, incoming.caller.tenant)
    return await _COMPLETION.answer(services, prepared)


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
