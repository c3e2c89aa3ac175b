"""A call whose job lives as long as its caller: the frame around each OpenAI dialect's answer.

Above: chat_completions.py and responses.py, which say what the answer is. Below: hub, presence. Not here: wire formats.
"""

from contextlib import AbstractAsyncContextManager, nullcontext

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.api.bodies import AsciiJSONResponse
from gateway.api.jobs import JOB_HEADER
from gateway.api.services import Services
from gateway.dialects.openai_errors import Failure, body_of, headers_of
from gateway.hub import Reader, StreamBroken
from gateway.sse import EventStream, watching
from shared.errors import JobNotFound, Unavailable
from shared.events import START


class Foreground(Response):
    """One caller's answer: while it is being given the job lives, a little longer when the caller leaves.

    A dialect says how it is streamed and how it is given whole; None means that nobody is there any more. A job that
    does not `depend` on its callers goes on without them.
    """

    def __init__(
        self, services: Services, job_id: str, *, streaming: bool, returning: bool, depends: bool = True
    ) -> None:
        self.background = None
        self._services = services
        self._job_id = job_id
        self._streaming = streaming
        self._returning = returning
        self._depends = depends
        self._extra = {JOB_HEADER: job_id}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one caller."""
        job_id, services = self._job_id, self._services
        async with (
            services.hub.reader(job_id, START, resumable=False) as reader,
            self._life_line(reader),
            watching(receive, reader),
        ):
            try:
                response = await (self._stream(reader) if self._streaming else self._whole(reader))
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
        if not self._depends:
            return nullcontext()
        return self._services.presence.of(self._job_id, lambda: reader.ended, returning=self._returning)

    async def _stream(self, reader: Reader) -> Response | None:
        raise NotImplementedError

    async def _whole(self, reader: Reader) -> Response | None:
        raise NotImplementedError

    def _failed(self, failure: Failure) -> Response:
        return AsciiJSONResponse(body_of(failure), failure.status, {**headers_of(failure), **self._extra})
