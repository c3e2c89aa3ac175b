"""Test the preparation of a task: the spec of a job that lives without its caller."""

import json

import pytest

from gateway.preparation.task import prepare_task
from shared.model.errors import InvalidRequest
from shared.model.jobs import Abandonment
from shared.model.kinds import CHAT, EMBEDDINGS
from tests.support.heads import JOB, head


def test_a_task_is_made_of_the_input_of_its_kind() -> None:
    spec = prepare_task(b'{"model": "m", "input": "A river."}', head(), EMBEDDINGS)

    assert (spec.id, spec.kind, spec.viewer, spec.abandonment) == (JOB, EMBEDDINGS, None, Abandonment())
    assert json.loads(spec.request) == {"model": "m", "input": ["A river."]}


def test_a_bad_input_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="messages must"):
        prepare_task(b'{"model": "m"}', head(), CHAT)
