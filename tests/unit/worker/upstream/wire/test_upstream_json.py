"""Test JSON of upstreams: numbers that JSON can not express are None, and nesting is bounded."""

import json

import pytest

from worker.upstream.wire.upstream_json import NESTING, decode_json


def test_numbers_outside_json_are_decoded_as_none() -> None:
    assert decode_json('{"logprob": -Infinity, "a": [NaN, Infinity, 1.5]}') == {"logprob": None, "a": [None, None, 1.5]}


def test_white_space_around_the_json_does_not_matter() -> None:
    assert decode_json(' \t\r\n{"a": 1} \n') == {"a": 1}


@pytest.mark.parametrize("text", ["", "  ", "{", "{} {}", "[1] x", "half a", "[1,]", "1" * 5000])
def test_a_text_that_is_not_json_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode_json(text)


@pytest.mark.parametrize("depth", [NESTING + 1, 900, 10_000, 100_000])
@pytest.mark.parametrize(("begin", "end"), [("[", "]"), ('{"a":', "}"), ('[{"a":[', "]}]")])
def test_a_text_nested_too_deep_is_an_error(depth: int, begin: str, end: str) -> None:
    with pytest.raises(ValueError, match="nested too deep"):
        decode_json(begin * depth + "1" + end * depth)


def test_a_text_nested_up_to_the_bound_is_decoded() -> None:
    text = "[" * NESTING + "]" * NESTING
    assert json.dumps(decode_json(text)) == text


def test_many_objects_side_by_side_are_not_deep() -> None:
    logprobs = [{"top_logprobs": [{"token": "{[", "logprob": -1.0}] * 20}] * 200
    assert decode_json(json.dumps(logprobs)) == logprobs
