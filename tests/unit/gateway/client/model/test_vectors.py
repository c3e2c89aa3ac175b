"""Test that a result is written only once it is proven."""

import base64
import hashlib
import struct
from typing import Any

import pytest

from gateway.client.model.vectors import as_lines, vectors_of
from shared.model.errors import AnswerNotWhole

VECTORS = [struct.pack("<2f", 1.0, 0.5), struct.pack("<2f", 0.25, -2.0)]
PROOF = {"inputs": 2, "dimensions": 2, "sha256": hashlib.sha256(b"".join(VECTORS)).hexdigest()}


def listed(*vectors: bytes) -> dict[str, Any]:
    return {"data": [{"embedding": base64.b64encode(vector).decode()} for vector in vectors]}


def test_a_proven_result_is_a_vector_a_line() -> None:
    assert list(as_lines(vectors_of(listed(*VECTORS), PROOF))) == ["[1.0,0.5]\n", "[0.25,-2.0]\n"]


@pytest.mark.parametrize(
    "result",
    [
        listed(*VECTORS[::-1]),
        listed(VECTORS[0]),
        listed(b"".join(VECTORS)),
        listed(VECTORS[0] + VECTORS[1][:4], VECTORS[1][4:]),
        listed(),
        {"data": [{"embedding": "no base64"}]},
        {"data": [{"embedding": [1.0, 0.5]}]},
        {"data": [{}]},
        {"data": None},
        {},
    ],
)
def test_a_result_that_does_not_match_its_checksum_is_refused(result: dict[str, Any]) -> None:
    with pytest.raises(AnswerNotWhole, match="Checksum mismatch"):
        vectors_of(result, PROOF)


def test_an_empty_proof_is_refused() -> None:
    with pytest.raises(AnswerNotWhole):
        vectors_of(listed(*VECTORS), {})
