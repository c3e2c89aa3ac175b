"""Test the preparation of a job's request: its spec, or the error of its body or a field."""

import json

import pytest

from gateway.preparation.job import prepare_job
from shared.model.errors import InvalidRequest
from tests.support.heads import JOB, head

BODY = {"model": "m", "messages": [{"role": "user", "content": "Hello?"}]}


def test_a_job_is_made_of_a_body() -> None:
    spec = prepare_job(json.dumps({**BODY, "lane": "low"}).encode(), head())

    assert (spec.id, spec.tenant, spec.lane, spec.idempotency_key) == (JOB, "alice", "low", "key")
    assert json.loads(spec.request) == BODY


@pytest.mark.parametrize(("raw", "sentence"), [(b"{", "must be JSON"), (b'{"model": "m"}', "messages must be")])
def test_a_bad_body_is_refused(raw: bytes, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        prepare_job(raw, head())
