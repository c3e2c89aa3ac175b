"""OpenAI's chat completions over ordinary jobs: the caller's connection is the job's life line.

Above: app.py. Below: admission, hub, dialects/chat.py. Headers are held until the first delta or the end, so that early
failures are HTTP statuses. Whoever was cut off comes back with the job's id. Not here: the wire format.
"""

from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from gateway.admission import LANE_HEADER
from gateway.api.bodies import AsciiJSONResponse, read_json
from gateway.api.jobs import JOB_HEADER, own_job
from gateway.api.services import Services, services_of
from gateway.api.translated import Translated, Translator
from gateway.dialects.chat import ChatCompletion, ChatOptions, ChatStream
from gateway.dialects.chunk_id import ChunkId, parse_chunk_id
from gateway.dialects.openai_errors import Failure, body_of, headers_of
from gateway.dialects.resumed_chat import ResumedChat
from gateway.hub import HEARTBEAT, Reader, StreamBroken
from gateway.presence import LEASE_S
from gateway.sse import EventStream, watching
from shared.errors import BadCursor, InvalidRequest, JobNotFound, Unavailable
from shared.events import START, decode_frame, split_frames
from shared.jobs import CHAT, Job

DISCONNECT_HEADER = "X-Tailrace-On-Disconnect"
"""What becomes of a job whose caller has left: `cancel`, after a while, or `continue`."""
_PREFIX = "chatcmpl-"


async def create(request: Request) -> Response:
    """`POST /v1/chat/completions`."""
    services = services_of(request)
    services.refuse_if_draining()
    caller = services.keyring.caller(request.headers.get("authorization"))
    body = await read_json(request, services.settings.max_body_bytes)
    streaming, include_usage = _stream_options(body)
    key = request.headers.get("idempotency-key")
    lane = request.headers.get(LANE_HEADER)
    abandon_after_s = None if _goes_on(request) else LEASE_S
    spec = services.admission.chat(body, caller, key, lane=lane, abandon_after_s=abandon_after_s)
    job = await services.admission.submit(spec)
    options = ChatOptions(job.id, job.model, include_usage, body.get("n") or 1)
    translator = ChatStream(options) if streaming else None
    return ChatAnswer(services, job, options, translator, returning=job.id != spec.id)


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
    body = await services.store.request(job.id)
    options = ChatOptions(job.id, job.model, _wants_usage(body), body.get("n") or 1)
    translator: Translator | None = None
    if streaming:
        services.metrics.resumes.of().add(cursor is not None)
        translator = ChatStream(options) if cursor is None else ResumedChat(options, cursor)
    return ChatAnswer(services, job, options, translator, returning=True)


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


def _goes_on(request: Request) -> bool:
    asked = request.headers.get(DISCONNECT_HEADER, "cancel")
    if asked not in ("cancel", "continue"):
        raise InvalidRequest(f"{DISCONNECT_HEADER} must be cancel or continue.", param=DISCONNECT_HEADER)
    return asked == "continue"


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


class ChatAnswer(Response):
    """One caller's answer: a stream if there is a `translator`, else whole.

    While the answer to a foreground call is being given its job lives, a little longer when the caller leaves.
    """

    def __init__(
        self, services: Services, job: Job, options: ChatOptions, translator: Translator | None, *, returning: bool
    ) -> None:
        self.background = None
        self._services = services
        self._options = options
        self._translator = translator
        self._foreground = job.abandon_ms > 0
        self._returning = returning
        self._extra = {JOB_HEADER: job.id}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one caller."""
        async with (
            self._services.hub.reader(self._options.job_id, START, resumable=False) as reader,
            self._life_line(reader),
            watching(receive, reader),
        ):
            try:
                response = await self._answer(reader)
            except StreamBroken as error:
                raise Unavailable(str(error)) from error
            except JobNotFound as error:
                # It was there: a 404 would tell the caller that its request is wrong, and not to repeat it.
                raise Unavailable("Redis was killed and has forgotten this call; try again.") from error
            if response is None:
                return  # nobody is there to be answered
            if isinstance(response, EventStream):
                await response.stream(send)
            else:
                await response(scope, receive, send)

    def _life_line(self, reader: Reader) -> AbstractAsyncContextManager[None]:
        if not self._foreground:
            return nullcontext()
        presence, job_id = self._services.presence, self._options.job_id
        return presence.of(job_id, lambda: reader.ended, returning=self._returning)

    async def _answer(self, reader: Reader) -> Response | None:
        return await (self._whole(reader) if self._translator is None else self._stream(reader, self._translator))

    async def _stream(self, reader: Reader, translator: Translator) -> Response | None:
        source = Translated(reader, translator)
        first = await source.opening(self._services.settings.headers_hold_s)
        if reader.gone:
            return None
        if translator.failure is not None and not translator.shown:
            return self._failed(translator.failure)
        return EventStream(source, reader, self._services.clock, headers=self._extra, first=first)

    async def _whole(self, reader: Reader) -> Response | None:
        completion = ChatCompletion(self._options)
        while not completion.ended:
            frames = await reader.chunk()
            if not frames:
                return None
            if frames is not HEARTBEAT:
                for frame in split_frames(frames):
                    completion.accept(decode_frame(frame))
        if completion.failure is not None:
            return self._failed(completion.failure)
        return AsciiJSONResponse(completion.body(), headers=self._extra)

    def _failed(self, failure: Failure) -> Response:
        return AsciiJSONResponse(body_of(failure), failure.status, {**headers_of(failure), **self._extra})


routes = [
    Route("/v1/chat/completions", create, methods=["POST"]),
    Route("/v1/chat/completions/{completion_id}", resume, methods=["GET"]),
]
