"""Serve the job API: submit, get, list, cancel, and stream the events as they are in the log.

Native readers get the log's bytes: this path decodes nothing. Not here: errors as problem+json
(gateway/http/errors.py).
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from gateway.api.incoming import Incoming
from gateway.api.services import Services, services_of
from gateway.http.bodies import AsciiJSONResponse
from gateway.http.errors import Face, problem
from gateway.http.middleware import AFTERWARDS
from gateway.model.auth import Caller, Links
from gateway.preparation.job import prepare_job
from gateway.specs.kinds import AdmittedKinds
from gateway.streams.progress_source import ProgressSource
from gateway.streams.sse import STREAM_HEADERS, EventStream, ReconnectResponse, Source, encode_headers
from shared.model.bounds import LIST_MOST, LIST_ROUNDS
from shared.model.errors import BrokenJob, Cancelled, InvalidRequest, JobNotFound, Unauthenticated
from shared.model.events import START, EventId, parse_cursor
from shared.model.job_progress import progress_of
from shared.model.jobs import ExecutionRecord, Job, is_job_id
from shared.model.kinds import ResultForm
from shared.model.lifecycle import State
from shared.store.client import REDIS_DOWN
from shared.store.wire.answers import CancelAnswer

CANCEL_WAIT_S = 2.0
"""How long a cancelling caller waits for the job's end."""
_LIST_DEFAULT = 20
JOB_HEADER = "x-tailrace-job"


async def submit(request: Request) -> Response:
    """Serve `POST /v1/jobs`."""
    services = services_of(request)
    incoming = await Incoming.receive(request, services)
    caller, spec = incoming.caller, await incoming.prepare(prepare_job)
    job = await services.admission.submit(spec)
    # A new job has no viewers: a query for them would slow down each submit.
    shown = show(services, job, caller) if job.id == spec.id else await _show_viewed(services, job, caller)
    return AsciiJSONResponse(shown, 202, {"location": shown["links"]["self"], JOB_HEADER: job.id})


async def get(request: Request) -> Response:
    """Serve `GET /v1/jobs/{id}`."""
    services = services_of(request)
    caller, job = await _own_job(request, services)
    position = await services.queue.position(job.id, job.lane) if job.status is State.QUEUED else None
    return AsciiJSONResponse({**await _show_viewed(services, job, caller), "position": position})


async def listing(request: Request) -> Response:
    """Serve `GET /v1/jobs?status=&kind=&limit=&after=`, newest first.

    A narrow filter may give a short or an empty page with `has_more`: continue after `last_id`.
    """
    services = services_of(request)
    caller = services.keyring.caller(request.headers.get("authorization"))
    status, kind, limit, after = _list_query(request, services.kinds)
    found: list[Job] = []
    last_read, over = after, False
    for _ in range(LIST_ROUNDS):
        ids = await services.tenant_lists.listed(caller.tenant, after=last_read, limit=LIST_MOST)
        jobs = await services.store.load_many(ids)
        gone = [job_id for job_id, job in zip(ids, jobs, strict=True) if job is None]
        await services.tenant_lists.unlist(caller.tenant, gone)
        found += [
            job
            for job in jobs
            if isinstance(job, Job) and not job.hidden and status in (None, job.status) and kind in (None, job.kind)
        ]
        over = len(ids) < LIST_MOST
        last_read = ids[-1] if ids else last_read
        if over or len(found) > limit:
            break
    page = found[:limit]
    cut = len(found) > limit
    last_id = page[-1].id if page else None
    if not (cut or over):
        last_id = last_read
    return AsciiJSONResponse(
        {
            "object": "list",
            "data": await _show_all_viewed(services, page, caller),
            "has_more": cut or not over,
            "first_id": page[0].id if page else None,
            "last_id": last_id,
        }
    )


async def cancel(request: Request) -> Response:
    """Serve `POST /v1/jobs/{id}/cancel`: idempotent; waits briefly for the end, then shows the job as it is."""
    services = services_of(request)
    caller, job = await _own_job(request, services)
    if not job.ended:
        await cancel_job(services, job)
        job = await services.store.load(job.id)
    return AsciiJSONResponse(await _show_viewed(services, job, caller))


async def cancel_job(services: Services, job: Job, *, wait: bool = True) -> None:
    """Cancel a job on request, and `wait` briefly for its end."""
    answer = await services.store.cancel(job.id, Cancelled.because("cancelled"))
    if answer is CancelAnswer.CANCELLED:
        # A worker runs the completion steps, of which the removal of the queue entry is the last.
        await services.queue.leave_lane(job.id, job.lane)
        await services.store.announce_end(job.id)
    elif answer is CancelAnswer.CANCELLING:
        # A job between attempts has no owner that could report its end.
        await services.queue.schedule_check([job.id], CANCEL_WAIT_S if job.owner else 0)
        if wait:
            await services.hub.ended(job.id, job.last, CANCEL_WAIT_S)


async def events(request: Request) -> Response:
    """Serve `GET /v1/jobs/{id}/events` (WHATWG HTML §9.2): the log after the cursor, then live, to its end."""
    services = services_of(request)
    if services.draining:
        return ReconnectResponse()
    try:
        return await _events(request, services)
    except REDIS_DOWN:
        # As for a draining gateway: a 503 would close an EventSource for good, only because Redis is unavailable.
        return ReconnectResponse()


async def _events(request: Request, services: Services) -> Response:
    token = request.query_params.get("token")
    job_id: str = request.path_params["job_id"]
    if token is None:
        _, job = await _own_job(request, services)
    elif await services.links.open(token, job_id):
        job = await services.store.load(job_id)
        if job.hidden:
            raise JobNotFound(f"There is no job {job_id}.")
    else:
        raise Unauthenticated("token is not valid for this job's events; request the job's links again.", param="token")
    cursor, with_progress = _cursor(request), _wants_progress(request)
    headers = {JOB_HEADER: job.id}
    if job.ended and cursor == job.last:
        return Response(status_code=204, headers=headers)
    if request.method == "HEAD":
        response = Response()
        response.raw_headers = encode_headers({**STREAM_HEADERS, **headers})
        return response
    services.open_streams.enter(request.scope, job.tenant)
    return JobEvents(services, job, cursor, headers, with_progress=with_progress)


class JobEvents(Response):
    """Stream one job to one native reader, `with_progress` if the reader asks for that of a chat."""

    def __init__(
        self, services: Services, job: Job, cursor: EventId, headers: dict[str, str], *, with_progress: bool = False
    ) -> None:
        self.background = None
        self._services = services
        self._job_id = job.id
        self._abandonable = job.abandonable
        self._cursor = cursor
        self._extra = headers
        # The log of other kinds has their progress.
        is_counted = with_progress and not job.ended and services.kinds.streams_text(job.kind)
        self._counted = job if is_counted else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream once the layers above have returned."""
        scope[AFTERWARDS] = self.stream

    async def stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the end of the job, or of the connection."""
        # Checked again, without an await before the reader is registered: a drain disconnects registered readers once.
        if self._services.draining:
            await ReconnectResponse()(scope, receive, send)
            return
        self._services.metrics.resumes.of().add(self._cursor > START)
        async with self._services.viewer_heartbeat.reader(
            self._job_id, self._cursor, abandonable=self._abandonable
        ) as reader:
            source: Source = reader
            if self._counted is not None:
                source = ProgressSource(reader, self._counted, self._services.store, self._services.clock)
            stream = EventStream(source, reader, self._services.clock, headers=self._extra, announce_break=True)
            await stream(scope, receive, send)


def _wants_progress(request: Request) -> bool:
    wanted = request.query_params.get("progress", "false")
    if wanted not in ("true", "false"):
        raise InvalidRequest("progress must be true or false.", param="progress")
    return wanted == "true"


def _cursor(request: Request) -> EventId:
    header = request.headers.get("last-event-id")
    return parse_cursor(request.query_params.get("last_event_id") if header is None else header)


async def _own_job(request: Request, services: Services) -> tuple[Caller, Job]:
    """Load the caller, and the job of this address, see `own_job`."""
    caller = services.keyring.caller(request.headers.get("authorization"))
    return caller, await own_job(services, caller, request.path_params["job_id"])


async def own_job(services: Services, caller: Caller, job_id: str, *, called: str | None = None) -> Job:
    """Load a job of the caller's; another tenant's looks missing (invariant 11). `called` is the caller's name for it.

    Raises:
        JobNotFound: the job belongs to another tenant, or does not exist.
    """
    missing = JobNotFound(f"There is no {called or f'job {job_id}'}.")
    if not is_job_id(job_id):
        raise missing
    try:
        job = await services.store.load(job_id)
    except (JobNotFound, BrokenJob):
        raise missing from None  # a broken record does not name its tenant
    if job.tenant != caller.tenant or job.hidden:
        raise missing
    return job


def _list_query(request: Request, kinds: AdmittedKinds) -> tuple[State | None, str | None, int, str | None]:
    query = request.query_params
    for name in query:
        if name not in ("status", "kind", "limit", "after"):
            raise InvalidRequest(f"{name} is not a filter; the filters are: status, kind, limit, after.", param=name)
    try:
        status = State(query["status"]) if "status" in query else None
    except ValueError:
        raise InvalidRequest(f"status must be one of: {', '.join(State)}.", param="status") from None
    limit = read_limit(query)
    kind = query.get("kind")
    if kind is not None and kind not in kinds:
        raise InvalidRequest(f"kind must be one of: {kinds.names}.", param="kind")
    after = query.get("after")
    if after is not None and not is_job_id(after):
        raise InvalidRequest("after must be the id of a job.", param="after")
    return status, kind, limit, after


def read_limit(query: QueryParams, default: int | None = None) -> int:
    """Read the largest number of entries of a page.

    Raises:
        InvalidRequest: the limit is not a number in the allowed range.
    """
    limit = query.get("limit", str(default or _LIST_DEFAULT))
    if len(limit) > len(str(LIST_MOST)) or not limit.isdecimal() or not 1 <= int(limit) <= LIST_MOST:
        raise InvalidRequest(f"limit must be a whole number from 1 to {LIST_MOST}.", param="limit")
    return int(limit)


async def _show_viewed(services: Services, job: Job, caller: Caller) -> dict[str, Any]:
    (shown,) = await _show_all_viewed(services, [job], caller)
    return shown


async def _show_all_viewed(services: Services, jobs: Sequence[Job], caller: Caller) -> list[dict[str, Any]]:
    """Show jobs to their caller, with their viewers; those of an ended job do not count."""
    alive = [job.id for job in jobs if not job.ended]
    viewers = dict(zip(alive, await services.viewers.count(alive), strict=True))
    return [show(services, job, caller, viewers.get(job.id, 0)) for job in jobs]


def show(services: Services, job: Job, caller: Caller, viewers: int = 0) -> dict[str, Any]:
    """Show a job to its caller."""
    address = services.links.address(f"/v1/jobs/{job.id}")
    events = events_link(job.id, services.links, caller)
    has_result = services.kinds.result_form(job.kind) is not ResultForm.EVENTS
    result = {"result": f"{address}/result"} if has_result else {}
    return {
        **about(job, services.kinds, viewers),
        "links": {
            "self": address,
            "events": events,
            "cancel": f"{address}/cancel",
            **result,
        },
    }


def events_link(job_id: str, links: Links, caller: Caller) -> str:
    """Build a link that opens the job's events without a key, as long as the caller's key is configured."""
    return links.address(f"/v1/jobs/{job_id}/events?token={links.token(job_id, caller)}")


def about(job: Job, kinds: AdmittedKinds, viewers: int = 0) -> dict[str, Any]:
    """Show the fields of a job's record. Times are RFC 3339, in UTC.

    `abandon_at` is when the job is abandoned if no viewer comes; it is present only while the job has no viewers.
    """
    return {
        "id": job.id,
        "object": "job",
        "kind": job.kind,
        "status": job.status.value,
        "model": job.model or None,
        "lane": job.lane,
        "created_at": shown_time(job.created_ms),
        "started_at": shown_time(job.started_ms),
        "ended_at": shown_time(job.ended_ms),
        "deadline_at": shown_time(job.deadline_ms),
        "position": None,
        "on_disconnect": job.on_disconnect.value,
        "viewers": viewers,
        "abandon_at": shown_time(job.abandon_ms) if not (viewers or job.ended) else None,
        "attempts": [_attempt(job, each) for each in job.executions],
        "last_event_id": str(job.last),
        "metadata": dict(job.metadata),
        "finish_reason": job.outcome.get("finish_reason"),
        "usage": job.outcome.get("usage"),
        "tokens_saved": job.outcome.get("tokens_saved"),
        "error": job.outcome.get("error"),
        "progress": progress_of(job, streams_text=kinds.streams_text(job.kind)).as_dict(),
        "result": job.outcome.get("result"),
        "events": job.outcome.get("events"),
        "sha256": job.outcome.get("sha256"),
        "after": dict(job.parents.jobs) if job.parents and job.parents.jobs else None,
        "released_at": shown_time(job.released_ms),
        "requeued_from": job.requeued_from,
        "requeued_as": job.requeued_as,
    }


def _attempt(job: Job, made: ExecutionRecord) -> dict[str, Any]:
    last = made is job.executions[-1]
    return {
        "attempt": made.attempt,
        "model": made.model,
        "provider": made.provider,
        "started_at": shown_time(made.started_ms),
        "ended_at": shown_time(made.ended_ms or (job.ended_ms if last else 0)),
        "resumed_from": made.resumed_from,
        "error": made.error or (job.outcome.get("error") if last else None),
    }


def shown_time(ms: int) -> str | None:
    """Format a record's time (ms) as RFC 3339; None if it is not set."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds") if ms else None


face = Face(
    "/v1/jobs",
    problem,
    [
        Route("/v1/jobs", submit, methods=["POST"]),
        Route("/v1/jobs", listing, methods=["GET"]),
        Route("/v1/jobs/{job_id}", get, methods=["GET"]),
        Route("/v1/jobs/{job_id}/events", events, methods=["GET", "HEAD"]),
        Route("/v1/jobs/{job_id}/cancel", cancel, methods=["POST"]),
    ],
)
