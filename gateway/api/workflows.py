"""Serve workflows: submit jobs that come after each other in one call, show them together, and cancel them.

Not here: their submit (gateway/admission/workflow_admission.py), their events (workflow_events.py), and the jobs of
their steps (jobs.py).
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.api.incoming import Incoming
from gateway.api.jobs import cancel_job, show, shown_time
from gateway.api.services import Services, services_of
from gateway.http.bodies import AsciiJSONResponse
from gateway.http.errors import Face, problem
from gateway.model.auth import Caller
from gateway.preparation.workflow import prepare_workflow
from shared.model.bounds import WORKFLOW_STEPS
from shared.model.errors import BrokenJob, WorkflowNotFound
from shared.model.jobs import Job
from shared.model.workflows import Workflow, is_workflow_id, status_of, workflow_id

WORKFLOW_HEADER = "x-tailrace-workflow"


async def submit(request: Request) -> Response:
    """Serve `POST /v1/workflows`."""
    services = services_of(request)
    incoming = await Incoming.receive(request, services)
    new_id, caller = workflow_id(services.admission.new_id()), incoming.caller
    job_ids = [services.admission.new_id() for _ in range(WORKFLOW_STEPS)]
    spec = await incoming.prepare(prepare_workflow, new_id, job_ids)
    workflow = await services.workflow_admission.submit(new_id, caller.tenant, spec)
    shown = await _show(services, workflow, caller)
    return AsciiJSONResponse(shown, 202, {"location": shown["links"]["self"], WORKFLOW_HEADER: workflow.id})


async def get(request: Request) -> Response:
    """Serve `GET /v1/workflows/{id}`."""
    services = services_of(request)
    caller, workflow = await _own_workflow(request, services)
    return AsciiJSONResponse(await _show(services, workflow, caller))


async def cancel(request: Request) -> Response:
    """Serve `POST /v1/workflows/{id}/cancel`: idempotent; waits briefly for the ends, then shows the workflow."""
    services = services_of(request)
    caller, workflow = await _own_workflow(request, services)
    # The last steps come first: one that waits ends as cancelled, and not because its parent does.
    jobs = [job for job in reversed(await _jobs(services, workflow)) if isinstance(job, Job) and not job.ended]
    for job in jobs:
        await cancel_job(services, job, wait=False)
    left = [job for job in await services.store.load_many([job.id for job in jobs]) if isinstance(job, Job)]
    await asyncio.gather(*(cancel_job(services, job) for job in left if not job.ended))
    return AsciiJSONResponse(await _show(services, workflow, caller))


async def _own_workflow(request: Request, services: Services) -> tuple[Caller, Workflow]:
    """Load the caller, and the workflow of this address, see `own_workflow`."""
    caller = services.keyring.caller(request.headers.get("authorization"))
    return caller, await own_workflow(services, caller, request.path_params["workflow_id"])


async def own_workflow(services: Services, caller: Caller, workflow_id: str) -> Workflow:
    """Load a workflow of the caller's; another tenant's looks missing (invariant 11).

    Raises:
        WorkflowNotFound: the workflow belongs to another tenant, or does not exist.
    """
    missing = WorkflowNotFound(f"There is no workflow {workflow_id}.")
    if not is_workflow_id(workflow_id):
        raise missing
    workflow = await services.workflows.load(workflow_id)
    if workflow.tenant != caller.tenant:
        raise missing
    return workflow


async def _jobs(services: Services, workflow: Workflow) -> Sequence[Job | BrokenJob | None]:
    return await services.store.load_many(list(workflow.steps.values()))


async def _show(services: Services, workflow: Workflow, caller: Caller) -> dict[str, Any]:
    """Show a workflow: its own status, and the jobs of its steps. A job that is not stored any more is null."""
    found = [job if isinstance(job, Job) and not job.hidden else None for job in await _jobs(services, workflow)]
    address = services.links.address(f"/v1/workflows/{workflow.id}")
    return {
        "id": workflow.id,
        "object": "workflow",
        "status": status_of(None if job is None else job.status for job in found).value,
        "created_at": shown_time(workflow.created_ms),
        "steps": {
            name: None if job is None else show(services, job, caller)
            for name, job in zip(workflow.steps, found, strict=True)
        },
        "links": {
            "self": address,
            "events": f"{address}/events?token={services.links.token(workflow.id, caller)}",
            "cancel": f"{address}/cancel",
        },
    }


face = Face(
    "/v1/workflows",
    problem,
    [
        Route("/v1/workflows", submit, methods=["POST"]),
        Route("/v1/workflows/{workflow_id}", get, methods=["GET"]),
        Route("/v1/workflows/{workflow_id}/cancel", cancel, methods=["POST"]),
    ],
)
