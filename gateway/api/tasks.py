"""Serve tasks, the face for callers that poll: submit, get with long polling, and cancel.

A task is a job. Not here: the form of a task (dialects/tasks), and jobs as they are (jobs.py).
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.api.incoming import Incoming
from gateway.api.jobs import JOB_HEADER, cancel_job, own_job
from gateway.api.results import EmbeddingsResponse
from gateway.api.services import Services, services_of
from gateway.dialects.chat.stream import ChatCompletion, ChatOptions
from gateway.dialects.embeddings import EmbeddingList, Encoding
from gateway.dialects.tasks.task import NestedList, has_part, show_task
from gateway.http.bodies import AsciiJSONResponse
from gateway.http.errors import Face, problem
from gateway.preparation.task import prepare_task
from gateway.streams.reader import HEARTBEAT, StreamBroken
from gateway.streams.sse import watching
from shared.model.errors import InvalidRequest, Unavailable
from shared.model.events import START, decode_frame, split_frames
from shared.model.jobs import Job
from shared.model.kinds import CHAT, EMBEDDINGS, ResultForm
from shared.model.lifecycle import State

WAIT_MOST_S: Final = 60
"""How long a caller may wait in one poll."""
_RETRY_AFTER_S: Final = "1"


async def submit(request: Request) -> Response:
    """Serve `POST /tasks?kind=`: the body is the kind's input."""
    return await _submit(request, None)


async def submit_chat(request: Request) -> Response:
    """Serve `POST /tasks/chat/completions`."""
    return await _submit(request, CHAT)


async def submit_embeddings(request: Request) -> Response:
    """Serve `POST /tasks/embeddings`."""
    return await _submit(request, EMBEDDINGS)


async def _submit(request: Request, fixed: str | None) -> Response:
    """Submit a task of the kind that the path has `fixed`, or of the one that the query names."""
    services = services_of(request)
    incoming = await Incoming.receive(request, services)
    kind = fixed or _kind(request.query_params, services)
    job = await services.admission.submit(await incoming.prepare(prepare_task, kind))
    address = _address(services, job)
    return AsciiJSONResponse(
        _show(services, job, partial=_has_part(services, job)), 202, {**_headers(job), "location": address}
    )


async def get(request: Request) -> Response:
    """Serve `GET /tasks/{id}?wait=`: the task, with its result once it has ended; `wait` is in seconds."""
    services = services_of(request)
    job = await _own_task(request, services)
    wait_s = _wait_s(request.query_params)
    if wait_s and not job.ended:
        await _wait_for_end(request, services, job, wait_s)
        job = await services.store.load(job.id)
    return await _answer(services, job)


async def cancel(request: Request) -> Response:
    """Serve `POST /tasks/{id}/cancel`: idempotent; waits briefly for the end."""
    services = services_of(request)
    job = await _own_task(request, services)
    if not job.ended:
        await cancel_job(services, job)
        job = await services.store.load(job.id)
    return await _answer(services, job)


async def _own_task(request: Request, services: Services) -> Job:
    caller = services.keyring.caller(request.headers.get("authorization"))
    task_id: str = request.path_params["task_id"]
    return await own_job(services, caller, task_id, called=f"task {task_id}")


def _kind(query: Mapping[str, str], services: Services) -> str:
    kind, known = query.get("kind", services.tasks_kind), services.kinds.names
    if kind is None:
        raise InvalidRequest(
            f"Name the task's kind in the query, as in ?kind=chat; the kinds are: {known}.", param="kind"
        )
    if kind not in services.kinds:
        raise InvalidRequest(f"kind must be one of: {known}.", param="kind")
    return kind


def _wait_s(query: Mapping[str, str]) -> int:
    wait = query.get("wait", "0")
    if not wait.isdecimal() or len(wait) > len(str(WAIT_MOST_S)) or int(wait) > WAIT_MOST_S:
        raise InvalidRequest(f"wait must be a whole number of seconds from 0 to {WAIT_MOST_S}.", param="wait")
    return int(wait)


async def _wait_for_end(request: Request, services: Services, job: Job, wait_s: int) -> None:
    """Wait until the job has ended, the time is up, this gateway drains, or the caller has left."""
    services.open_streams.enter(request.scope, job.tenant)
    try:
        async with (
            asyncio.timeout(wait_s),
            services.viewer_heartbeat.reader(job.id, job.last, abandonable=job.abandonable) as reader,
            watching(request.scope, request.receive, reader),
        ):
            while await reader.chunk():
                pass
    except (TimeoutError, StreamBroken):
        pass  # the caller polls again


async def _answer(services: Services, job: Job) -> Response:
    partial = _has_part(services, job)
    if not job.ended:
        return AsciiJSONResponse({**_show(services, job, partial=partial), "result": None}, headers=_headers(job))
    match services.kinds.result_form(job.kind):
        case ResultForm.VECTORS if partial:
            task, embedded = _show(services, job, partial=True), job.embedded
            listed = EmbeddingList(job.model, embedded, Encoding.FLOAT)
            return EmbeddingsResponse(services, job, embedded, NestedList(task, listed))
        case ResultForm.EVENTS if services.kinds.streams_text(job.kind):
            result = await _text_result(services, job)
        case ResultForm.VALUE:
            result = job.outcome.get("result")
        case _:
            result = None
    shown = _show(services, job, partial=result is not None)
    return AsciiJSONResponse({**shown, "result": result}, headers=_headers(job))


def _show(services: Services, job: Job, *, partial: bool) -> dict[str, Any]:
    return show_task(job, _address(services, job), partial=partial, streams_text=services.kinds.streams_text(job.kind))


def _has_part(services: Services, job: Job) -> bool:
    return has_part(job, streams_text=services.kinds.streams_text(job.kind))


async def _text_result(services: Services, job: Job) -> dict[str, Any] | None:
    """Return a completed chat as a `chat.completion`, the message so far of any other; None without a word."""
    # Only a whole completion depends on its request, which may be gone for other ends.
    request = await services.store.request(job.id) if job.status is State.COMPLETED else {}
    whole = ChatCompletion(ChatOptions.of(job.id, job.model, request))
    try:
        async with services.hub.reader(job.id, START) as reader:
            while not whole.ended and (frames := await reader.chunk()):
                if frames is not HEARTBEAT:
                    for frame in split_frames(frames):
                        whole.accept(decode_frame(frame))
    except StreamBroken as error:
        raise Unavailable(str(error)) from error
    if whole.failure is None:
        return whole.body()
    message = whole.message()
    return None if message is None else {"choices": [{"index": 0, "message": message, "finish_reason": None}]}


def _address(services: Services, job: Job) -> str:
    return services.links.address(f"/tasks/{job.id}")


def _headers(job: Job) -> dict[str, str]:
    return {JOB_HEADER: job.id, **({} if job.ended else {"retry-after": _RETRY_AFTER_S})}


face = Face(
    "/tasks",
    problem,
    [
        Route("/tasks", submit, methods=["POST"]),
        Route("/tasks/chat/completions", submit_chat, methods=["POST"]),
        Route("/tasks/embeddings", submit_embeddings, methods=["POST"]),
        Route("/tasks/{task_id}", get, methods=["GET"]),
        Route("/tasks/{task_id}/cancel", cancel, methods=["POST"]),
    ],
)
