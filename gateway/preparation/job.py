"""Prepare a request of `POST /v1/jobs`. Pure. Not here: its fields (gateway/admission)."""

from gateway.model.json_body import decode_object
from gateway.preparation.request_head import RequestHead
from shared.model.jobs import JobSpec


def prepare_job(raw: bytes, head: RequestHead) -> JobSpec:
    """Make the spec of a job from a body.

    Raises:
        InvalidRequest, Forbidden, ModelNotFound: names the field and its valid values.
    """
    return head.specs.native(decode_object(raw), head.caller, head.key, head.job_id)
