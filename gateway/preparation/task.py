"""Prepare a request that submits a task. Pure. Not here: how a task is shown (gateway/dialects/tasks)."""

from gateway.model.json_body import decode_object
from gateway.preparation.request_head import RequestHead
from gateway.specs.job_request import JobRequest
from shared.model.jobs import JobSpec, OnDisconnect


def prepare_task(raw: bytes, head: RequestHead, kind: str) -> JobSpec:
    """Make the spec of a job of this kind from a body, which is the kind's input.

    Raises:
        InvalidRequest, Forbidden, ModelNotFound: names the field and its valid values.
    """
    body = decode_object(raw)
    call = JobRequest(
        f"tasks.{kind}",
        body,
        body,
        head.options,
        head.key,
        kind=kind,
        on_disconnect=OnDisconnect.CONTINUE,
        watched=False,
    )
    return head.specs.admit(call, head.caller, head.job_id)
