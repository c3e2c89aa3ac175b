"""Prepare a request of `POST /v1/workflows`. Pure. Not here: its steps (gateway/specs/workflow_spec.py)."""

from collections.abc import Sequence
from dataclasses import replace

from gateway.model.json_body import decode_object
from gateway.preparation.request_head import RequestHead
from gateway.specs.validation import fingerprint_of, read_idempotency_key
from gateway.specs.workflow_spec import WorkflowSpec, read_workflow


def prepare_workflow(raw: bytes, head: RequestHead, gate: str, job_ids: Sequence[str]) -> WorkflowSpec:
    """Make the specs of a workflow's jobs from a body. Raises as `read_workflow`."""
    body = decode_object(raw)
    spec = read_workflow(body, head.specs, head.caller, gate, job_ids)
    if head.key is None:
        return spec
    key = read_idempotency_key(head.key)
    return replace(spec, idempotency_key=key, fingerprint=fingerprint_of("workflows", body))
