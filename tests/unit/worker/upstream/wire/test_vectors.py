"""Test the valid answers to an embeddings request, and their vectors."""

import base64
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.model.bounds import DIMENSIONS
from shared.model.errors import ProviderGarbage
from worker.upstream.wire.vectors import Vectors, pack, read_vectors

FLOATS = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=5)


def item(embedding: object, **fields: Any) -> dict[str, Any]:
    return {"object": "embedding", "embedding": embedding, **fields}


def answer(*items: object, **fields: Any) -> dict[str, Any]:
    return {"object": "list", "data": list(items), "model": "m", **fields}


def b64(*numbers: float) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


@given(FLOATS)
def test_base64_and_a_list_of_the_same_numbers_are_the_same_vector(numbers: list[float]) -> None:
    in_base64 = read_vectors(answer(item(b64(*numbers), index=0)), 1)

    assert in_base64 == read_vectors(answer(item(numbers, index=0)), 1)
    assert in_base64 == Vectors(pack(numbers), len(numbers))


def test_vectors_are_in_the_order_of_their_inputs_whatever_order_they_come_in() -> None:
    read = read_vectors(answer(item([2.0], index=1), item([1.0], index=0)), 2)

    assert read.data == pack([1.0, 2.0])


def test_vectors_without_an_index_are_in_their_order() -> None:
    assert read_vectors(answer(item([1]), item([2])), 2).data == pack([1.0, 2.0])


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 7, "total_tokens": 7}, 7),
        ({"prompt_tokens": -1}, None),
        ({"prompt_tokens": True}, None),
        ({"prompt_tokens": 1e3}, None),
        ({}, None),
        (None, None),
    ],
)
def test_a_malformed_count_is_ignored(usage: object, tokens: int | None) -> None:
    assert read_vectors(answer(item([1.0]), usage=usage), 1).prompt_tokens == tokens


@pytest.mark.parametrize(
    "said",
    [
        None,
        [],
        {},
        {"data": {}},
        answer(),
        answer(item([1.0]), item([1.0]), item([1.0])),
        answer(item([1.0]), "no object"),
        answer(item([1.0], index=0), item([1.0], index=0)),
        answer(item([1.0], index=1), item([1.0], index=2)),
        answer(item([1.0], index=-1), item([1.0], index=0)),
        answer(item([1.0], index=True), item([1.0], index=0)),
        answer(item([1.0], index="0"), item([1.0], index=1)),
        answer(item([1.0]), item([1.0, 2.0])),
        answer(item([1.0]), item([])),
        answer(item([1.0]), item("")),
        answer(item([1.0]), item(None)),
        answer(item([1.0]), item(["a"])),
        answer(item([1.0]), item([1e39])),
        answer(item([1.0]), item([float("nan")])),
        answer(item([1.0]), item(b64(float("inf")))),
        answer(item([1.0]), item("AAAA")),
        answer(item([1.0]), item("no base64")),
        answer(item([1.0]), item([0.0] * (DIMENSIONS + 1))),
    ],
)
def test_anything_else_is_garbage(said: object) -> None:
    with pytest.raises(ProviderGarbage):
        read_vectors(said, 2)
