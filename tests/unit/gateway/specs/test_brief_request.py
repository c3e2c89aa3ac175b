"""Test the brief of a request without an answer: the form of the answer, if that is small beside the rest."""

import json
from typing import Any

import pytest

from gateway.specs.brief_request import brief_of

FORM: dict[str, Any] = {"model": "m", "n": 2, "stream_options": {"include_usage": True}, "functions": [{"name": "f"}]}
MESSAGES = [{"role": "user", "content": "x" * 100_000}]


def test_a_large_request_is_reduced_to_the_fields_that_shape_its_answer() -> None:
    brief = brief_of({**FORM, "messages": MESSAGES, "temperature": 1}, 100_000)

    assert json.loads(brief) == FORM


@pytest.mark.parametrize(
    ("request_", "size"),
    [({"model": "m", "messages": []}, 16_383), ({"model": "m", "tools": [{"name": "x" * 25_000}]}, 100_000)],
    ids=["small", "large in its form"],
)
def test_a_request_of_which_little_would_be_spared_stays_whole(request_: dict[str, Any], size: int) -> None:
    assert brief_of(request_, size) == b""
