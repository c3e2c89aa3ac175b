"""Serve OpenAI's embeddings over ordinary jobs: the caller's connection keeps the job alive, as for a chat completion.

results.py writes the list. Not here: the wire format.
"""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.admission.job_request import JobRequest
from gateway.admission.request_options import RequestOptions
from gateway.api.openai_errors import OPENAI_PREFIX, openai_error
from gateway.api.results import EmbeddingsResponse
from gateway.api.services import Services, services_of
from gateway.api.synchronous_call import SynchronousCall
from gateway.dialects.embeddings import EmbeddingList, EmbeddingsEnd, Encoding, parse_encoding
from gateway.http.bodies import read_json
from gateway.http.errors import Face
from gateway.http.heavy_work import RequestWork
from shared.model.jobs import Job
from shared.model.kinds import EMBEDDINGS


async def create(request: Request) -> Response:
    """Serve `POST /v1/embeddings` (OpenAI API reference, embeddings/create)."""
    services = services_of(request)
    services.refuse_if_draining()
    caller = services.keyring.caller(request.headers.get("authorization"))
    body = await read_json(request, services.settings.max_body_bytes, services.heavy)
    encoding = parse_encoding(body.get("encoding_format"))
    key = request.headers.get("idempotency-key")
    work = RequestWork.of(services.heavy, request)
    call = JobRequest("embeddings", body, body, RequestOptions.of(request.headers), key, kind=EMBEDDINGS)
    spec = await work.run(services.admission.admit, call, caller)
    job = await services.admission.submit(spec)
    return _Answer(services, job, encoding, counted=job.id == spec.id)


class _Answer(SynchronousCall):
    """Answer one caller."""

    def __init__(self, services: Services, job: Job, encoding: Encoding, *, counted: bool) -> None:
        super().__init__(services, job, None, EmbeddingsEnd(), counted=counted)
        self._encoding = encoding

    async def _completed(self) -> Response:
        job = await self._services.store.load(self._job_id)
        listed = EmbeddingList(job.model, job.embedded, self._encoding)
        return EmbeddingsResponse(self._services, job, job.embedded, listed)


face = Face(OPENAI_PREFIX, openai_error, [Route("/v1/embeddings", create, methods=["POST"])])
