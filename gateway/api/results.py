"""Serve `GET /v1/jobs/{id}/result`: a job's result that is not a stream, as far as it is stored.

At most one page of vectors is in memory at once; embeddings.py answers with the same. Not here: how vectors are stored
(shared/store/results.py).
"""

from typing import Protocol

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from gateway.api.jobs import JOB_HEADER, own_job
from gateway.api.services import Services, services_of
from gateway.dialects.embeddings import EmbeddingList, Encoding, parse_encoding
from gateway.http.bodies import AsciiJSONResponse
from gateway.http.errors import Face, problem
from shared.model.bounds import PAGE_BYTES
from shared.model.errors import NotFound, Unavailable
from shared.model.jobs import Embedded, Job
from shared.model.kinds import ResultForm
from shared.store.client import REDIS_DOWN
from shared.store.refusals import name_of

log = structlog.get_logger()


async def get(request: Request) -> Response:
    """Serve `GET /v1/jobs/{id}/result?encoding_format=`."""
    services = services_of(request)
    caller = services.keyring.caller(request.headers.get("authorization"))
    job = await own_job(services, caller, request.path_params["job_id"])
    encoding = parse_encoding(request.query_params.get("encoding_format"))
    match services.kinds.result_form(job.kind):
        case ResultForm.EVENTS:
            raise NotFound(f"A job of kind {job.kind} has no result of its own: its answer is in its events.")
        case ResultForm.VECTORS:
            return _vectors(services, job, encoding)
        case ResultForm.VALUE:
            return _value(job)


def _value(job: Job) -> Response:
    """Answer with the result in the job's terminal event; it is null if it does not exist, or not yet."""
    shown = {"object": "result", "job": job.id, "status": job.status.value, "result": job.outcome.get("result")}
    return AsciiJSONResponse(shown, headers={JOB_HEADER: job.id})


def _vectors(services: Services, job: Job, encoding: Encoding) -> Response:
    embedded = job.embedded
    progress = {"done": embedded.done, "total": embedded.total} if embedded else {"done": 0, "total": None}
    listed = EmbeddingList(job.model, embedded, encoding, job=job.id, status=job.status.value, **progress)
    return EmbeddingsResponse(services, job, embedded, listed)


class PagedList(Protocol):
    """Write a list of embeddings page by page, see `EmbeddingList`."""

    @property
    def opening(self) -> bytes:
        """Return the bytes before the first item."""
        ...

    @property
    def closing(self) -> bytes:
        """Return the bytes after the last item."""
        ...

    def items(self, page: bytes) -> bytes:
        """Write the embeddings of this page."""
        ...


class EmbeddingsResponse(Response):
    """Send a list of embeddings to one caller."""

    def __init__(self, services: Services, job: Job, embedded: Embedded | None, listed: PagedList) -> None:
        self.background = None
        self.status_code = 200
        self._results = services.results
        self._job = job
        self._size = embedded.size if embedded else 0
        self._page = max(PAGE_BYTES // embedded.vector_bytes, 1) * embedded.vector_bytes if embedded else 1
        self._listed = listed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the list. If Redis fails or loses it midway, the body breaks off, so that it can't pass for complete.

        Raises:
            Unavailable: the result was gone before anything was sent.
        """
        sent, body = 0, self._listed.opening
        try:
            async for page in self._results.pages(self._job.id, self._size, self._page):
                body += self._listed.items(page)
                await self._send(send, body, first=not sent, more=True)
                sent, body = sent + len(page), b""
        except REDIS_DOWN as error:
            if not sent:
                raise
            log.warning("result.broken", error=name_of(error))
            return
        if sent < self._size:
            if not sent:
                raise Unavailable("The result was lost in a failure of Redis; try again.")
            log.warning("result.forgotten")
            return
        await self._send(send, body + self._listed.closing, first=not sent, more=False)

    async def _send(self, send: Send, body: bytes, *, first: bool, more: bool) -> None:
        if first:
            headers = [(b"content-type", b"application/json"), (JOB_HEADER.encode(), self._job.id.encode())]
            await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": more})


face = Face("/v1/jobs", problem, [Route("/v1/jobs/{job_id}/result", get, methods=["GET"])])
