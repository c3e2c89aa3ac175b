"""Serve OpenAI's chat completions over ordinary jobs. Not here: the wire format (dialects/chat)."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.api.completion_calls import CompletionDialect
from gateway.api.incoming import Incoming
from gateway.api.openai_errors import OPENAI_PREFIX, openai_error
from gateway.api.services import services_of
from gateway.dialects.chat.stream import ChatCompletion, ChatOptions, ChatStream
from gateway.http.errors import Face
from gateway.preparation.completion import prepare_chat

_CHAT = CompletionDialect("chat completion", ChatOptions, ChatStream, ChatCompletion)


async def create(request: Request) -> Response:
    """Serve `POST /v1/chat/completions`."""
    services = services_of(request)
    incoming = await Incoming.receive(request, services)
    prepared = await incoming.prepare(prepare_chat)
    if prepared.streaming:
        services.open_streams.enter(request.scope, incoming.caller.tenant)
    return await _CHAT.answer(services, prepared)


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
