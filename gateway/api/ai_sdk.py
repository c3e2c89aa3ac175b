"""Serve the AI SDK's chat (`useChat`, `DefaultChatTransport`) over ordinary jobs: a chat's id names its latest job.

Closing a page stops nothing. The latest of several tabs wins; the streams of the others are aborted. Not here: the
wire format (dialects/ai_sdk).
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from gateway.api.allowance import Allowance
from gateway.api.dialect_stream import DialectStream
from gateway.api.incoming import Incoming
from gateway.api.jobs import JOB_HEADER, cancel_job
from gateway.api.services import Services, services_of
from gateway.dialects.ai_sdk.request import read_chat_id
from gateway.dialects.ai_sdk.stream import UiMessageStream
from gateway.dialects.errors import Failure, failure_of, headers_of
from gateway.http.bodies import AsciiJSONResponse, read_body
from gateway.http.errors import Face
from gateway.http.heavy_work import Requester
from gateway.preparation.ui_chat import (
    MESSAGE_ID,
    ChatHistory,
    UiFacts,
    not_stored,
    prepare_turn,
    read_facts,
    read_stop,
)
from gateway.streams.reader import StreamBroken
from gateway.streams.sse import STREAM_HEADERS, EventStream, encode_headers, watching
from shared.model.errors import (
    BodyTooLarge,
    BrokenJob,
    InvalidRequest,
    JobNotFound,
    MemoryFull,
    RequestError,
    TailraceError,
    Unavailable,
)
from shared.model.events import START, data_size
from shared.model.jobs import Job
from shared.model.lifecycle import State
from shared.model.text import escaped

STREAM_HEADER = "x-vercel-ai-ui-message-stream"
_VERSION = "v1"
# Tabs may send at the same time; each attempt admits one of them.
_TRIES: Final = 5


async def create(request: Request) -> Response:
    """Serve `POST /api/chat`."""
    services = services_of(request)
    incoming = await Incoming.receive(request, services)
    facts = await incoming.work.run(read_facts, incoming.raw)
    services.open_streams.enter(request.scope, incoming.caller.tenant)
    job = await _submit(services, incoming, facts)
    return UiChat(services, job, counted=True)


async def resume(request: Request) -> Response:
    """Serve `GET /api/chat/{id}/stream`: the running answer from its beginning; 204 if none is running.

    A header of either response names the job; that of a 204 names the job that answered last.
    """
    services = services_of(request)
    caller = services.keyring.caller(request.headers.get("authorization"))
    conversation = await services.conversations.load(caller.tenant, _chat_id(request))
    for job in await _jobs(services, conversation.active):
        if not job.ended and job.status is not State.CANCELLING:
            services.refuse_if_draining()
            answer = UiChat(services, job)
            if request.method != "GET":
                return answer.head()
            services.open_streams.enter(request.scope, caller.tenant)
            services.metrics.resumes.of().add()
            return answer
    return Response(status_code=204, headers=None if conversation.last is None else {JOB_HEADER: conversation.last})


async def stop(request: Request) -> Response:
    """Serve `POST /api/chat/{id}/stop`: idempotent; closes the upstream's connection, and readers get an `abort`."""
    services = services_of(request)
    caller = services.keyring.caller(request.headers.get("authorization"))
    raw = await read_body(request, services.settings.max_body_bytes)
    by = Requester(caller.tenant, request)
    job_id = await services.heavy.run(by, len(raw), read_stop, raw, JOB_HEADER)
    stopped = await services.conversations.stop(caller.tenant, _chat_id(request), job_id)
    for job in await _jobs(services, stopped):
        await cancel_job(services, job)
    return AsciiJSONResponse({"success": True})


def _chat_id(request: Request) -> str:
    return read_chat_id(request.path_params["chat_id"])


async def _jobs(services: Services, job_ids: Sequence[str]) -> list[Job]:
    """Load the jobs with these ids, without those that are missing or unreadable."""
    found = await services.store.load_many(job_ids) if job_ids else []
    return [job for job in found if isinstance(job, Job) and not job.hidden]


async def _submit(services: Services, incoming: Incoming, facts: UiFacts) -> Job:
    """Admit the next turn. The chat's previous job is cancelled, here or by its own tab."""
    conversations, chat = services.conversations, (incoming.caller.tenant, facts.chat_id)
    model = "" if facts.names_model else await _default_model(services)
    for _ in range(_TRIES):
        former = None if facts.whole else await _former(services, *chat, incoming)
        incoming.head = replace(incoming.head, job_id=services.admission.new_id())
        prepared = await incoming.prepare(prepare_turn, model, former)
        spec, job_id = prepared.spec, prepared.spec.id
        if not facts.whole and len(spec.request) > services.settings.max_body_bytes:
            raise _too_long(services)
        await services.admission.check_model(spec)
        last = None if former is None else former.job.id
        superseded = await conversations.begin(*chat, job_id, last=last, whole=facts.whole, timeout_s=spec.timeout_s)
        if superseded is None:
            continue
        try:
            job = await services.admission.submit(spec)
        except (RequestError, MemoryFull):
            await conversations.stop(*chat, job_id)  # a refusal stores nothing
            raise
        answered = await conversations.commit(*chat, job_id, prepared.turns, timeout_s=spec.timeout_s)
        for each in await _jobs(services, [*superseded, *([job_id] if answered is None else answered)]):
            await cancel_job(services, each, wait=False)
        return job
    raise Unavailable("Several requests changed this chat at the same time; try again.")


def _too_long(services: Services) -> BodyTooLarge:
    return BodyTooLarge(f"A conversation may have at most {services.settings.max_body_bytes} bytes; start a new one.")


async def _default_model(services: Services) -> str:
    models = services.settings.served_models or await services.catalog.models()
    if not models:
        raise InvalidRequest("model must be the name of a model.", param="model")
    return models[0]


async def _former(services: Services, tenant: str, chat_id: str, incoming: Incoming) -> ChatHistory | None:
    """Read a conversation from its last job: the job's request, and its answer.

    Raises:
        InvalidRequest: the job does not exist any more.
        BodyTooLarge: its answer is larger than a conversation may be.
    """
    conversation = await services.conversations.load(tenant, chat_id)
    if conversation.last is None:
        return None
    try:
        job, request = await services.store.load_with_stored(conversation.last)
        if job.hidden:
            raise not_stored()
        frames = await _frames(services, job)
    except (JobNotFound, BrokenJob):
        raise not_stored() from None
    incoming.work.size += len(request) + len(frames)
    return ChatHistory(job, request, frames, conversation.turns)


async def _frames(services: Services, job: Job) -> bytes:
    allowance, frames = Allowance(services.settings.max_body_bytes, _too_long(services)), bytearray()
    async for frame in services.hub.replay_log.frames(job.id):
        allowance.take(data_size(frame))
        frames += frame
    return bytes(frames)


class UiChat(Response):
    """Stream one job to one reader, from the beginning."""

    def __init__(self, services: Services, job: Job, *, counted: bool = False) -> None:
        self.background = None
        self._services = services
        self._job_id = job.id
        self._abandonable = job.abandonable
        self._counted = counted
        self._message_id = job.metadata[MESSAGE_ID]
        self._extra = {STREAM_HEADER: _VERSION, JOB_HEADER: job.id}

    def head(self) -> Response:
        """Return the answer to `HEAD`."""
        response = Response()
        response.raw_headers = encode_headers({**STREAM_HEADERS, **self._extra})
        return response

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the end of the job, or of the connection."""
        async with (
            self._services.viewer_heartbeat.reader(
                self._job_id, START, abandonable=self._abandonable, counted=self._counted
            ) as reader,
            watching(scope, receive, reader),
        ):
            source = DialectStream(reader, UiMessageStream(self._message_id))
            try:
                first = await source.opening(self._services.settings.headers_hold_s)
            except StreamBroken as error:
                raise Unavailable(str(error)) from error
            except JobNotFound as error:
                raise Unavailable("The answer was lost in a failure of Redis; try again.") from error
            if reader.gone:
                return
            failure = source.translator.failure
            if failure is not None and not source.translator.shown:
                await _sentence(failure, self._extra)(scope, receive, send)
                return
            stream = EventStream(source, reader, self._services.clock, headers=self._extra, first=first)
            await stream.stream(send)


def _render_error(error: TailraceError) -> Response:
    return _sentence(failure_of(error))


def _sentence(failure: Failure, headers: dict[str, str] | None = None) -> Response:
    """Write a failure as the AI SDK shows it: the whole body becomes the error's message."""
    about = {**headers_of(failure), **(headers or {})}
    if failure.status == 401:
        about["www-authenticate"] = "Bearer"
    # Clients show it unchanged, also curl on a terminal.
    return PlainTextResponse(escaped(failure.message), failure.status, about)


def _chat_route(action: str, endpoint: Callable[[Request], Awaitable[Response]], method: str) -> Route:
    route = Route(f"/api/chat/{{chat_id:path}}/{action}", endpoint, methods=[method])
    # A chat's id may hold line breaks, at which Starlette's paths end.
    route.path_regex = re.compile(route.path_regex.pattern, re.DOTALL)
    return route


face = Face(
    "/api/",
    _render_error,
    [
        Route("/api/chat", create, methods=["POST"]),
        _chat_route("stream", resume, "GET"),
        _chat_route("stop", stop, "POST"),
    ],
)
