"""Answer a call in any of OpenAI's dialects, streamed or whole; its job lives as long as its caller.

Headers are held until the answer begins, so that early failures are HTTP statuses. Not here: wire formats.
"""

from typing import Any, Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.api.dialect_stream import DialectStream, Translator
from gateway.api.jobs import JOB_HEADER
from gateway.api.openai_errors import openai_failure
from gateway.api.services import Services
from gateway.dialects.errors import Failure
from gateway.http.bodies import AsciiJSONResponse
from gateway.streams.reader import HEARTBEAT, Reader, StreamBroken
from gateway.streams.sse import EventStream, watching
from shared.model.errors import JobNotFound, Unavailable
from shared.model.events import START, Event, decode_frame, split_frames
from shared.model.jobs import Job


class Aggregator(Protocol):
    """Build a dialect's whole answer from a job's events, see dialects/chat."""

    @property
    def ended(self) -> bool:
        """Return whether no further event is needed."""
        ...

    @property
    def failure(self) -> Failure | None:
        """Return the failure that ended the job, if any."""
        ...

    def accept(self, event: Event) -> None:
        """Add the job's next event."""
        ...

    def body(self) -> dict[str, Any]:
        """Return the body of the answer."""
        ...


class SynchronousCall(Response):
    """Answer one caller, which is a viewer of the job meanwhile: the job's policy decides about the job if it leaves.

    `translator` serves a caller that requested a stream (None: the dialect has none), `whole` any other. `counted`:
    the caller was recorded as a viewer with the job.
    """

    def __init__(
        self,
        services: Services,
        job: Job,
        translator: Translator | None,
        whole: Aggregator,
        *,
        streaming: bool = False,
        counted: bool = False,
    ) -> None:
        self.background = None
        self._services = services
        self._job_id = job.id
        self._abandonable = job.abandonable
        self._translator = translator if streaming else None
        self._whole = whole
        self._counted = counted
        self._folded = 0
        self._extra = {JOB_HEADER: job.id}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one caller."""
        async with (
            self._services.viewer_heartbeat.reader(
                self._job_id, START, abandonable=self._abandonable, resumable=False, counted=self._counted
            ) as reader,
            watching(scope, receive, reader),
        ):
            try:
                translator = self._translator
                response = await (self._fold(reader) if translator is None else self._begin(reader, translator))
            except StreamBroken as error:
                raise Unavailable(str(error)) from error
            except JobNotFound as error:
                # The job existed: a 404 would mean that the request is wrong and must not be repeated.
                raise Unavailable("The call was lost in a failure of Redis; try again.") from error
            if response is None:
                return  # the caller has left
            if isinstance(response, EventStream):
                await response.stream(send)
            else:
                await response(scope, receive, send)

    async def _begin(self, reader: Reader, translator: Translator) -> Response | None:
        source = DialectStream(reader, translator)
        first = await source.opening(self._services.settings.headers_hold_s)
        if reader.gone:
            return None
        if translator.failure is not None and not translator.shown:
            return self._failed(translator.failure)
        return EventStream(source, reader, self._services.clock, headers=self._extra, first=first)

    async def _fold(self, reader: Reader) -> Response | None:
        whole = self._whole
        while not whole.ended:
            frames = await reader.chunk()
            if not frames:
                return None
            if frames is not HEARTBEAT:
                self._folded += len(frames)
                for frame in split_frames(frames):
                    whole.accept(decode_frame(frame))
        if whole.failure is not None:
            return self._failed(whole.failure)
        return await self._completed()

    async def _completed(self) -> Response:
        return await self._services.heavy.run_here(self._folded, self._answer)

    def _answer(self) -> Response:
        return AsciiJSONResponse(self._whole.body(), headers=self._extra)

    def _failed(self, failure: Failure) -> Response:
        return openai_failure(failure, self._extra)
