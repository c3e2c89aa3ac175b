"""Stream the events of all steps of a workflow as one: `GET /v1/workflows/{id}/events`.

Not here: the form of the frames (gateway/model/workflow_frames.py), merging them (gateway/streams/workflow_source.py),
and the events of one job (jobs.py).
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from gateway.api.services import Services, services_of
from gateway.api.workflows import WORKFLOW_HEADER, own_workflow
from gateway.http.errors import Face, problem
from gateway.http.middleware import AFTERWARDS
from gateway.model.workflow_frames import Positions, WorkflowFrames, parse_workflow_cursor
from gateway.streams.reader import Reader
from gateway.streams.sse import STREAM_HEADERS, EventStream, ReconnectResponse, encode_headers
from gateway.streams.workflow_source import StepReaders, WorkflowSource
from shared.model.errors import Unauthenticated, WorkflowNotFound
from shared.model.jobs import Job
from shared.model.workflows import Workflow, is_workflow_id, status_of
from shared.store.client import REDIS_DOWN


async def events(request: Request) -> Response:
    """Serve the events: those after the cursor, then live, until each step has ended."""
    services = services_of(request)
    if services.draining:
        return ReconnectResponse()
    try:
        return await _events(request, services)
    except REDIS_DOWN:
        # As for a job: a 503 would close an EventSource for good, only because Redis is unavailable.
        return ReconnectResponse()


async def _events(request: Request, services: Services) -> Response:
    workflow = await _readable(request, services)
    header = request.headers.get("last-event-id")
    text = request.query_params.get("last_event_id") if header is None else header
    positions = parse_workflow_cursor(text, len(workflow.steps))
    headers = {WORKFLOW_HEADER: workflow.id}
    if positions is None:
        return Response(status_code=204, headers=headers)
    if request.method == "HEAD":
        response = Response()
        response.raw_headers = encode_headers({**STREAM_HEADERS, **headers})
        return response
    services.open_streams.enter(request.scope, workflow.tenant)
    return WorkflowEvents(services, workflow, positions, headers)


async def _readable(request: Request, services: Services) -> Workflow:
    """Load the workflow for a caller with a key, or with the token of its link."""
    token, workflow_id = request.query_params.get("token"), request.path_params["workflow_id"]
    if token is None:
        caller = services.keyring.caller(request.headers.get("authorization"))
        return await own_workflow(services, caller, workflow_id)
    if not is_workflow_id(workflow_id):
        raise WorkflowNotFound(f"There is no workflow {workflow_id}.")
    if await services.links.open(token, workflow_id):
        return await services.workflows.load(workflow_id)
    raise Unauthenticated(
        "token is not valid for this workflow's events; request the workflow's links again.", param="token"
    )


class WorkflowEvents(Response):
    """Stream one workflow to one reader, who is a viewer of each step that has not ended."""

    def __init__(
        self, services: Services, workflow: Workflow, positions: Positions, headers: Mapping[str, str]
    ) -> None:
        self.background = None
        self._services = services
        self._workflow = workflow
        self._frames = WorkflowFrames(list(workflow.steps), positions)
        self._extra = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream once the layers above have returned."""
        scope[AFTERWARDS] = self.stream

    async def stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the end of all steps, or of the connection."""
        try:
            jobs = await self._services.store.load_many(list(self._workflow.steps.values()))
        except REDIS_DOWN:
            await ReconnectResponse()(scope, receive, send)
            return
        found = [job if isinstance(job, Job) and not job.hidden else None for job in jobs]
        unsent = [step for step in range(len(found)) if not self._frames.is_done(step)]
        # Checked again, without an await before the readers are registered: a drain disconnects those once.
        if self._services.draining:
            await ReconnectResponse()(scope, receive, send)
            return
        wanted = {step: job for step in unsent if (job := found[step]) is not None}
        async with self._open(wanted) as by_step:
            readers = StepReaders(by_step)
            missing = [step for step in unsent if step not in wanted]
            source = WorkflowSource(readers, self._frames, missing, self._last)
            async with source.following():
                clock = self._services.clock
                stream = EventStream(source, readers, clock, headers=self._extra, announce_break=True)
                await stream(scope, receive, send)

    @asynccontextmanager
    async def _open(self, wanted: Mapping[int, Job]) -> AsyncIterator[dict[int, Reader]]:
        async with AsyncExitStack() as stack:
            yield {
                step: await stack.enter_async_context(
                    self._services.viewer_heartbeat.reader(
                        job.id, self._frames.position(step), abandonable=job.abandonable, shared_by=len(wanted)
                    )
                )
                for step, job in wanted.items()
            }

    async def _last(self) -> bytes:
        jobs = await self._services.store.load_many(list(self._workflow.steps.values()))
        status = status_of(job.status if isinstance(job, Job) else None for job in jobs)
        return self._frames.end(self._workflow.id, status)


face = Face("/v1/workflows", problem, [Route("/v1/workflows/{workflow_id}/events", events, methods=["GET", "HEAD"])])
