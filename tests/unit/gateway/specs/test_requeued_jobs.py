"""Test the jobs that are made of dead letters."""

import json
from typing import Any

import pytest

from shared.model.errors import InvalidRequest
from shared.model.job_record import job_from_record
from shared.model.jobs import Abandonment, Job
from shared.model.routes import OnStreamFailure
from tests.unit.gateway.specs.specs import BODY, JOB, NEW, native, specs, with_


def dead_letter(**changes: Any) -> Job:
    """Return a job that has failed."""
    record = {
        "v": "1",
        "kind": "chat",
        "tenant": "bob",
        "lane": "default",
        "model": "m",
        "status": "failed",
        "epoch": "1",
        "seq": "2",
        "attempts": "1",
        "created": "1000",
        "deadline": "21500",
        "metadata": '{"colour":"blue"}',
        "on_stream_failure": "rollback",
        **changes,
    }
    return job_from_record(JOB, {name.encode(): value.encode() for name, value in record.items()})


def test_a_requeued_dead_letter_keeps_the_tenant_and_options_of_its_job() -> None:
    spec = specs().again(dead_letter(), BODY, {"kept": 1}, NEW)

    assert (spec.tenant, spec.lane, spec.model, spec.timeout_s) == ("bob", "default", "m", 20.5)
    assert (dict(spec.metadata), spec.on_stream_failure) == ({"colour": "blue"}, OnStreamFailure.ROLLBACK)
    assert json.loads(spec.request) == {**BODY, "tailrace": {"kept": 1}}
    assert (spec.requeued_from, spec.abandonment, spec.viewer) == (JOB, Abandonment(), None)
    assert spec.id == NEW
    assert "tailrace" not in json.loads(specs().again(dead_letter(), BODY, {}, JOB).request)


def test_the_fields_of_a_requeued_request_are_not_checked_again() -> None:
    request = with_(temperature=3, timeout_ms=5)

    assert json.loads(specs().again(dead_letter(), request, {}, JOB).request) == request


def test_no_caller_can_take_the_key_of_a_dead_letter() -> None:
    key = specs().again(dead_letter(), BODY, {}, JOB).idempotency_key

    assert key is not None and JOB in key
    with pytest.raises(InvalidRequest):
        native(BODY, key)


def test_a_lane_that_is_not_there_any_more_is_named() -> None:
    with pytest.raises(InvalidRequest, match="The job's lane gone does not exist") as refused:
        specs().again(dead_letter(lane="gone"), BODY, {}, JOB)

    assert refused.value.param == "lane"
