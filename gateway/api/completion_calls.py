"""Answer calls of OpenAI's two completion dialects, which differ in their objects only.

The caller's connection keeps the job alive; a caller that was cut off returns with the job's id. Not here: the wire
formats, and the reading of requests (chat_completions.py, completions.py).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from gateway.api.jobs import JOB_HEADER, own_job
from gateway.api.services import Services, services_of
from gateway.api.synchronous_call import SynchronousCall
from gateway.dialects.chat.answer_options import AnswerOptions
from gateway.dialects.chat.chunk_stream import ChunkStream
from gateway.dialects.chat.resumed_stream import ResumedStream
from gateway.dialects.chat.stream_request import resumed_at
from gateway.dialects.chat.whole_answer import WholeAnswer
from gateway.http.heavy_work import Requester
from gateway.preparation.completion import PreparedCompletion
from gateway.preparation.stored_answer import completion_options
from shared.model.errors import BadCursor, JobNotFound

_Options = TypeVar("_Options", bound=AnswerOptions)


@dataclass(frozen=True, slots=True)
class CompletionDialect(Generic[_Options]):
    """Describe one of the two dialects: the noun for its answers in sentences, and the translators of a job."""

    noun: str
    options: type[_Options]
    stream: Callable[[_Options], ChunkStream]
    whole: Callable[[_Options], WholeAnswer]

    async def answer(self, services: Services, prepared: PreparedCompletion[_Options]) -> Response:
        """Submit a job and answer its caller.

        Raises:
            BoundReached, IdempotencyConflict: nothing was stored.
        """
        job = await services.admission.submit(prepared.spec)
        options = replace(prepared.options, job_id=job.id, model=job.model)
        whole, counted = self.whole(options), job.id == prepared.spec.id
        return SynchronousCall(
            services, job, self.stream(options), whole, streaming=prepared.streaming, counted=counted
        )

    async def resume(self, request: Request) -> Response:
        """Answer with a chat job's answer; as a stream, from the chunk after the caller's last one.

        Raises:
            JobNotFound: the caller has no such answer.
            InvalidRequest, BadCursor: names the field and its valid values.
        """
        services = services_of(request)
        services.refuse_if_draining()
        caller = services.keyring.caller(request.headers.get("authorization"))
        name: str = request.path_params["completion_id"]
        job = await own_job(services, caller, self._job_id(name), called=f"{self.noun} {name}")
        if not services.kinds.streams_text(job.kind):
            raise JobNotFound(f"There is no {self.noun} {name}.")
        streaming, cursor = resumed_at(request.query_params, request.headers.get("last-event-id"))
        if cursor is not None and cursor.event > job.last:
            raise BadCursor(
                "starting_after must be the id of a chunk of this answer; it has no such chunk.", param="starting_after"
            )
        if request.method == "HEAD":
            return Response(headers={JOB_HEADER: job.id})
        if streaming:
            services.open_streams.enter(request.scope, caller.tenant)
        stored = await services.store.stored_request(job.id)
        by = Requester(caller.tenant, request)
        options = await services.heavy.run(by, len(stored), completion_options, stored, self.options, job.id, job.model)
        services.metrics.resumes.of().add(cursor is not None)
        stream = self.stream(options)
        translator = stream if cursor is None else ResumedStream(stream, cursor)
        return SynchronousCall(services, job, translator, self.whole(options), streaming=streaming)

    def _job_id(self, name: str) -> str:
        prefix = self.options.PREFIX
        return "job_" + name.removeprefix(prefix) if name.startswith(prefix) else name
