"""Test the preparation of a workflow's request: its specs and its key, or the error of its body or a step."""

import json
from dataclasses import replace

import pytest

from gateway.preparation.workflow import prepare_workflow
from shared.model.errors import InvalidRequest
from shared.model.jobs import new_job_id
from tests.support.heads import head

GATE = "wf_" + "0" * 26
IDS = [new_job_id(1, number) for number in range(2)]
STEP = {"model": "m", "messages": [{"role": "user", "content": "Hello?"}]}
BODY = {"steps": {"outline": STEP, "text": {**STEP, "after": ["outline"]}}}
RAW = json.dumps(BODY).encode()


def test_a_workflow_is_made_of_a_body_and_has_the_key_of_its_request() -> None:
    workflow = prepare_workflow(RAW, head(), GATE, IDS)

    assert workflow.jobs == dict(zip(("outline", "text"), IDS, strict=True))
    assert workflow.idempotency_key == "key"
    assert [spec.idempotency_key for spec in workflow.steps.values()] == [None, None]


def test_a_key_stands_for_one_body() -> None:
    reordered = json.dumps({"steps": dict(reversed(BODY["steps"].items()))}).encode()
    other = json.dumps({"steps": {"outline": STEP}}).encode()
    prints = [prepare_workflow(raw, head(), GATE, IDS).fingerprint for raw in (RAW, reordered, other)]

    assert prints[0] == prints[1] != prints[2]


def test_a_workflow_without_a_key_has_none() -> None:
    workflow = prepare_workflow(RAW, replace(head(), key=None), GATE, IDS)

    assert (workflow.idempotency_key, workflow.fingerprint) == (None, "")


@pytest.mark.parametrize(
    ("raw", "sentence"), [(b"{", "must be JSON"), (b'{"steps": {"a": {"model": "m"}}}', "The step a: messages must be")]
)
def test_a_bad_body_is_refused(raw: bytes, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        prepare_workflow(raw, head(), GATE, IDS)
