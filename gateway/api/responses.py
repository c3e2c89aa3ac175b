"""Serve OpenAI's Responses over ordinary jobs: create, retrieve, resume, cancel, delete, and list the input.

A background response lives without its caller; any other is cancelled when its caller leaves. Not here: the wire
format (dialects/responses), and earlier responses (response_history.py).
"""

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from gateway.api.dialect_stream import DialectStream
from gateway.api.incoming import Incoming
from gateway.api.jobs import JOB_HEADER, cancel_job
from gateway.api.openai_errors import OPENAI_PREFIX, openai_error
from gateway.api.response_history import ResponseHistory, note_prompt
from gateway.api.services import Services, services_of
from gateway.api.stored_responses import Stored, response_json, stored_response
from gateway.api.synchronous_call import SynchronousCall
from gateway.dialects.responses.object import ResponseOptions, response_id, response_object
from gateway.dialects.responses.stream import ALL, ResponseStream, WholeResponse
from gateway.http.bodies import AsciiJSONResponse
from gateway.http.errors import Face
from gateway.http.heavy_work import Requester
from gateway.http.middleware import AFTERWARDS
from gateway.preparation.stored_answer import listed_input, options_of
from gateway.streams.sse import EventStream
from shared.model.bounds import LIST_MOST
from shared.model.errors import InvalidRequest
from shared.model.events import START
from shared.model.jobs import Job
from shared.model.lifecycle import State
from shared.store.wire.answers import ForgetAnswer

log = structlog.get_logger()

_LIST_DEFAULT = 20
_NUMBER_CHARS = 15


async def create(request: Request) -> Response:
    """Serve `POST /v1/responses`."""
    services = services_of(request)
    incoming = await Incoming.receive(request, services)
    asked = await ResponseHistory(services, incoming).prepare()
    if asked.unknown:
        log.debug("responses.unknown_fields_left_out", fields=asked.unknown)
    if asked.streaming:
        services.open_streams.enter(request.scope, incoming.caller.tenant)
    job = await services.admission.submit(asked.spec)
    await note_prompt(services, job, asked.prompt)
    options, counted = options_of(job, asked.echo), job.id == asked.spec.id
    if not asked.background:
        return SynchronousCall(
            services,
            job,
            ResponseStream(options),
            WholeResponse(options),
            streaming=asked.streaming,
            counted=counted,
        )
    if asked.streaming:
        return ResponseEvents(services, job, options, counted=counted)
    return await _shown(services, incoming.by, job, options, incoming.work.size)


async def retrieve(request: Request) -> Response:
    """Serve `GET /v1/responses/{id}?stream=&starting_after=`: the response as it is, or its events from a number on.

    While it runs, its output is empty unless it is streamed: folding a log for each poll costs too much.
    """
    services = services_of(request)
    after = _after(request)
    if after is not None:
        services.refuse_if_draining()
    stored = await _own(request, services)
    if after is not None and request.method != "HEAD":
        services.open_streams.enter(request.scope, stored.job.tenant)
        return ResponseEvents(services, stored.job, stored.options, after)
    by = Requester(stored.job.tenant, request)
    return await _shown(services, by, stored.job, stored.options, len(stored.request))


async def cancel(request: Request) -> Response:
    """Serve `POST /v1/responses/{id}/cancel`: idempotent; the response as it then is."""
    services = services_of(request)
    stored = await _own(request, services)
    job, options = stored.job, stored.options
    if not options.background:
        raise InvalidRequest("Only a background response can be cancelled; close the connection of any other.")
    if not job.ended:
        await cancel_job(services, job)
        job = await services.store.load(job.id)
    return await _shown(services, Requester(job.tenant, request), job, options, len(stored.request))


async def delete(request: Request) -> Response:
    """Serve `DELETE /v1/responses/{id}`: the caller can't read it from now on; a running job is cancelled."""
    services = services_of(request)
    job = (await _own(request, services)).job
    await services.queue_admission.record_deletion(job.id, retention_s=services.settings.retention_s)
    if await services.store.forget(job.id) is ForgetAnswer.HIDDEN:
        await cancel_job(services, job, wait=False)
    return AsciiJSONResponse({"id": response_id(job.id), "object": "response", "deleted": True})


async def input_items(request: Request) -> Response:
    """Serve `GET /v1/responses/{id}/input_items?limit=&order=&after=`: the model's input without the instructions."""
    services = services_of(request)
    limit, newest_first, after = _list_query(request)
    stored = await _own(request, services)
    by, size = Requester(stored.job.tenant, request), len(stored.request)
    items = await services.heavy.run(by, size, listed_input, stored.request, stored.job.id)
    if newest_first:
        items.reverse()
    if after is not None:
        ids = [item["id"] for item in items]
        if after not in ids:
            raise InvalidRequest("after must be the id of one of this response's input items.", param="after")
        items = items[ids.index(after) + 1 :]
    page = items[:limit]
    return AsciiJSONResponse(
        {
            "object": "list",
            "data": page,
            "has_more": len(items) > limit,
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None,
        }
    )


# --- Streams and answers


class ResponseEvents(Response):
    """Stream a response to a reader that can resume: the job continues when the reader leaves."""

    def __init__(
        self, services: Services, job: Job, options: ResponseOptions, after: int = ALL, *, counted: bool = False
    ) -> None:
        self.background = None
        self._services = services
        self._options = options
        self._after = after
        self._abandonable = job.abandonable
        self._counted = counted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream once the layers above have returned."""
        scope[AFTERWARDS] = self.stream

    async def stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the end of the job, or of the connection."""
        services, job_id = self._services, self._options.job_id
        services.metrics.resumes.of().add(self._after > ALL)
        async with services.viewer_heartbeat.reader(
            job_id, START, abandonable=self._abandonable, counted=self._counted
        ) as reader:
            if services.draining:  # a drain disconnects registered readers only once
                reader.break_off("This gateway is shutting down.")
            source = DialectStream(reader, ResponseStream(self._options, self._after), started=True)
            await EventStream(source, reader, services.clock, headers={JOB_HEADER: job_id})(scope, receive, send)


async def _shown(services: Services, by: Requester, job: Job, options: ResponseOptions, size: int) -> Response:
    """Answer with the response of a job as it is now; its request has this size."""
    headers = {JOB_HEADER: job.id}
    if job.ended:
        whole = await response_json(services, by, options)
        return Response(whole, headers=headers, media_type=AsciiJSONResponse.media_type)
    if job.status is State.CANCELLING:
        status = "cancelled"  # no other end is possible any more
    else:
        status = "queued" if options.background and not job.started_ms else "in_progress"
    return await services.heavy.run_here(size, AsciiJSONResponse, response_object(options, status), headers=headers)


# --- Access


async def _own(request: Request, services: Services) -> Stored:
    caller = services.keyring.caller(request.headers.get("authorization"))
    by = Requester(caller.tenant, request)
    return await stored_response(services, caller, by, request.path_params["response_id"])


# --- Queries


def _after(request: Request) -> int | None:
    """Read the number to continue after if the response is to be streamed; else None."""
    query = request.query_params
    after, stream = query.get("starting_after"), query.get("stream", "false")
    if stream not in ("true", "false"):
        raise InvalidRequest("stream must be true or false.", param="stream")
    if stream == "false":
        if after is not None:
            raise InvalidRequest("starting_after is only allowed when stream is true.", param="starting_after")
        return None
    if after is None:
        return ALL
    if not (after.isascii() and after.isdecimal() and len(after) <= _NUMBER_CHARS):
        raise InvalidRequest("starting_after must be the sequence_number of an event.", param="starting_after")
    return int(after)


def _list_query(request: Request) -> tuple[int, bool, str | None]:
    query = request.query_params
    limit, order = query.get("limit", str(_LIST_DEFAULT)), query.get("order", "desc")
    if len(limit) > len(str(LIST_MOST)) or not limit.isdecimal() or not 1 <= int(limit) <= LIST_MOST:
        raise InvalidRequest(f"limit must be a whole number from 1 to {LIST_MOST}.", param="limit")
    if order not in ("asc", "desc"):
        raise InvalidRequest("order must be asc or desc.", param="order")
    return int(limit), order == "desc", query.get("after")


face = Face(
    OPENAI_PREFIX,
    openai_error,
    [
        Route("/v1/responses", create, methods=["POST"]),
        Route("/v1/responses/{response_id}", retrieve, methods=["GET"]),
        Route("/v1/responses/{response_id}", delete, methods=["DELETE"]),
        Route("/v1/responses/{response_id}/cancel", cancel, methods=["POST"]),
        Route("/v1/responses/{response_id}/input_items", input_items, methods=["GET"]),
    ],
)
