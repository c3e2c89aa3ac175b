"""Serve OpenAI's embeddings over ordinary jobs: the caller's connection keeps the job alive, as for a chat completion.

results.py writes the list. Not here: the wire format.
"""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.api.incoming import Incoming
from gateway.api.openai_errors import OPENAI_PREFIX, openai_error
from gateway.api.results import EmbeddingsResponse
from gateway.api.services import Services, services_of
from gateway.api.synchronous_call import SynchronousCall
from gateway.dialects.embeddings import EmbeddingList, EmbeddingsEnd, Encoding
from gateway.http.errors import Face
from gateway.preparation.embeddings import prepare_embeddings
from shared.model.jobs import Job


async def create(request: Request) -> Response:
    """Serve `POST /v1/embeddings` (OpenAI API reference, embeddings/create)."""
    services = services_of(request)
    incoming = await Incoming.receive(request, services)
    prepared = await incoming.prepare(prepare_embeddings)
    job = await services.admission.submit(prepared.spec)
    return _EmbeddingsAnswer(services, job, prepared.encoding, counted=job.id == prepared.spec.id)


class _EmbeddingsAnswer(SynchronousCall):
    """Answer one caller."""

    def __init__(self, services: Services, job: Job, encoding: Encoding, *, counted: bool) -> None:
        super().__init__(services, job, None, EmbeddingsEnd(), counted=counted)
        self._encoding = encoding

    async def _completed(self) -> Response:
        job = await self._services.store.load(self._job_id)
        listed = EmbeddingList(job.model, job.embedded, self._encoding)
        return EmbeddingsResponse(self._services, job, job.embedded, listed)


face = Face(OPENAI_PREFIX, openai_error, [Route("/v1/embeddings", create, methods=["POST"])])
