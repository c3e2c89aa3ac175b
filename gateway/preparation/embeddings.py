"""Prepare a request of `POST /v1/embeddings`. Pure. Not here: its answer (gateway/dialects/embeddings.py)."""

from dataclasses import dataclass

from gateway.dialects.embeddings import Encoding, parse_encoding
from gateway.model.json_body import decode_object
from gateway.preparation.request_head import RequestHead
from gateway.specs.job_request import JobRequest
from shared.model.jobs import JobSpec
from shared.model.kinds import EMBEDDINGS


@dataclass(frozen=True, slots=True)
class PreparedEmbeddings:
    """Hold the spec of a job, and the form in which its vectors are shown."""

    spec: JobSpec
    encoding: Encoding


def prepare_embeddings(raw: bytes, head: RequestHead) -> PreparedEmbeddings:
    """Prepare a request from its body.

    Raises:
        InvalidRequest, Forbidden, ModelNotFound: names the field and its valid values.
    """
    body = decode_object(raw)
    encoding = parse_encoding(body.get("encoding_format"))
    call = JobRequest("embeddings", body, body, head.options, head.key, kind=EMBEDDINGS)
    return PreparedEmbeddings(head.specs.admit(call, head.caller, head.job_id), encoding)
