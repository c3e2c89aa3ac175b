"""Test idempotency keys, and the fingerprints by which two requests with one key are the same."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from gateway.specs.request_options import RequestOptions
from shared.model.errors import InvalidRequest
from shared.model.jobs import JobSpec
from tests.unit.gateway.specs.specs import BODY, MESSAGES, chat, embeddings, native, respond, response, with_


def test_responses_with_the_same_fields_have_the_same_fingerprint() -> None:
    asked = response({"input": "Hello?"})
    assert response({"input": "Hello?"}).fingerprint == asked.fingerprint
    assert response({"input": "Hello!"}).fingerprint != asked.fingerprint


@pytest.mark.parametrize(
    "given",
    [RequestOptions("low"), RequestOptions(on_stream_failure="fail"), RequestOptions("low", "fail")],
    ids=["lane", "policy", "both"],
)
def test_options_are_part_of_the_fingerprint_of_a_request(given: RequestOptions) -> None:
    def fingerprints(options: RequestOptions) -> tuple[str, str]:
        called = chat(BODY, "key", options=options)
        answered = respond({}, options=options, kept={})
        return called.fingerprint, answered.fingerprint

    plain = fingerprints(RequestOptions())
    assert fingerprints(RequestOptions()) == plain
    assert not {*fingerprints(given)} & {*plain}


@pytest.mark.parametrize(
    ("header", "key"),
    [("abc", "abc"), ('"abc"', "abc"), ("a b", "a b"), ('"', '"'), ("x" * 255, "x" * 255), ('a"b', 'a"b')],
)
def test_an_idempotency_key_means_the_same_with_and_without_quotes(header: str, key: str) -> None:
    assert native(BODY, header).idempotency_key == key


@pytest.mark.parametrize("header", ["", '""', "x" * 256, "naïve", "a\tb", "a\x00b"])
def test_a_malformed_idempotency_key_is_refused(header: str) -> None:
    with pytest.raises(InvalidRequest, match="1 to 255 printable ASCII") as caught:
        native(BODY, header)
    assert caught.value.param == "Idempotency-Key"


def test_bodies_that_mean_the_same_have_the_same_fingerprint() -> None:
    fields = [("model", "m"), ("messages", [{"role": "user", "content": "x"}]), ("metadata", {"a": "1", "b": "2"})]
    fields_reversed = [
        ("metadata", {"b": "2", "a": "1"}),
        ("messages", [{"content": "x", "role": "user"}]),
        ("model", "m"),
    ]
    assert native(dict(fields), "k").fingerprint == native(dict(fields_reversed), "k").fingerprint


def test_a_body_without_a_key_is_not_encoded_for_a_fingerprint() -> None:
    assert native(BODY).fingerprint == ""


def test_bodies_that_mean_different_things_have_different_fingerprints() -> None:
    bodies: list[dict[str, Any]] = [
        BODY,
        with_(model="m2"),
        with_(messages=[*MESSAGES, *MESSAGES]),
        with_(timeout_s=5),
        with_(metadata={"a": "b"}),
        with_(temperature=1),
        with_(temperature=1.5),
        with_(stream=True),
    ]
    fingerprints = [native(body, "k").fingerprint for body in bodies]
    assert all(one != other for one, other in itertools.combinations(fingerprints, 2))


def test_the_same_body_at_another_address_has_another_fingerprint() -> None:
    assert native(BODY, "k").fingerprint != chat(BODY, "k").fingerprint


@pytest.mark.parametrize("make", [partial(chat, key="k"), response], ids=["chat", "response"])
def test_the_same_body_in_another_lane_has_another_fingerprint(make: Callable[..., JobSpec]) -> None:
    assert len({make(BODY, lane=lane).fingerprint for lane in (None, "high", "low")}) == 3


def test_the_encoding_of_vectors_is_part_of_the_fingerprint() -> None:
    body = {"model": "m", "input": "Hello"}

    assert embeddings(body, "k").fingerprint != embeddings({**body, "encoding_format": "base64"}, "k").fingerprint
    assert embeddings(body, "k").fingerprint == embeddings({"input": "Hello", "model": "m"}, "k").fingerprint
    assert embeddings(body, "k").fingerprint != native({**body, "kind": "embeddings"}, "k").fingerprint
