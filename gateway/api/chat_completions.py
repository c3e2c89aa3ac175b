"""OpenAI's chat completions over ordinary jobs: the caller's connection is the job's life line.

Above: app.py. Below: admission, hub, dialects/chat.py. Headers are held until the first delta or the end, so that early
failures are HTTP statuses. Not here: the wire format.
"""

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.admission import LANE_HEADER
from gateway.api.bodies import AsciiJSONResponse, read_json
from gateway.api.foreground import Foreground
from gateway.api.services import Services, services_of
from gateway.dialects.chat import ChatCompletion, ChatOptions, ChatStream
from gateway.hub import HEARTBEAT, Reader
from gateway.presence import LEASE_S
from gateway.sse import EventStream
from shared.errors import InvalidRequest
from shared.events import decode_frame, split_frames


async def create(request: Request) -> Response:
    """`POST /v1/chat/completions`."""
    services = services_of(request)
    services.refuse_if_draining()
    caller = services.keyring.caller(request.headers.get("authorization"))
    body = await read_json(request, services.settings.max_body_bytes)
    streaming, include_usage = _stream_options(body)
    key = request.headers.get("idempotency-key")
    lane = request.headers.get(LANE_HEADER)
    spec = services.admission.chat(body, caller, key, lane=lane, abandon_after_s=LEASE_S)
    job = await services.admission.submit(spec)
    options = ChatOptions(job.id, job.model, include_usage, body.get("n") or 1)
    return ForegroundChat(services, options, streaming=streaming, returning=job.id != spec.id)


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


class ChatSource:
    """A reader's frames, translated; see `sse.Source`."""

    def __init__(self, reader: Reader, translator: ChatStream) -> None:
        self._reader = reader
        self.translator = translator

    async def chunk(self) -> bytes:
        """The next wire frames, or a heartbeat; empty at the end."""
        while not self.translator.ended:
            frames = await self._reader.chunk()
            if not frames or frames is HEARTBEAT:
                return frames
            if wire := self.translate(frames):
                return wire
        return b""

    def translate(self, frames: bytes) -> bytes:
        """What these frames say in this dialect."""
        return b"".join(self.translator.translate(decode_frame(frame)) for frame in split_frames(frames))


class ForegroundChat(Foreground):
    """One caller's chat completion."""

    def __init__(self, services: Services, options: ChatOptions, *, streaming: bool, returning: bool) -> None:
        super().__init__(services, options.job_id, streaming=streaming, returning=returning)
        self._options = options

    async def _stream(self, reader: Reader) -> Response | None:
        source = ChatSource(reader, ChatStream(self._options))
        first = b""
        try:
            async with asyncio.timeout(self._services.settings.headers_hold_s):
                while (first := await source.chunk()) is HEARTBEAT:
                    pass
        except TimeoutError:
            first = HEARTBEAT
        if reader.gone:
            return None
        failure = source.translator.failure
        if failure is not None and not source.translator.shown:
            return self._failed(failure)
        late = LateFailure(source)
        return EventStream(late, reader, self._services.clock, headers=self._extra, first=first)

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


class LateFailure:
    """A source whose headers went out before the job failed without a delta: then the body has to tell."""

    def __init__(self, source: ChatSource) -> None:
        self._source = source
        self._told = False

    async def chunk(self) -> bytes:
        """The source's bytes, and the failure's frame where the translator kept it to itself."""
        data = await self._source.chunk()
        translator = self._source.translator
        if data or self._told or translator.shown or translator.failure is None:
            return data
        self._told = True
        return translator.failure_frame()


routes = [Route("/v1/chat/completions", create, methods=["POST"])]
