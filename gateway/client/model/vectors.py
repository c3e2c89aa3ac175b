"""Check a result that is vectors against its proof, and write it as lines of JSON. Pure.

Not here: the fetch of the result and its proof (gateway/client/following.py).
"""

import base64
import hashlib
import json
import struct
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeGuard

from shared.model.errors import AnswerNotWhole
from shared.model.jobs import FLOAT_BYTES

_PROOF: Final = frozenset({"inputs", "dimensions", "sha256"})


def is_proof(result: object) -> TypeGuard[Mapping[str, Any]]:
    """Return whether the `result` of a terminal event is the proof of vectors; any other result is the job's value."""
    return isinstance(result, Mapping) and result.keys() == _PROOF


def vectors_of(listed: Mapping[str, Any], proof: Mapping[str, Any]) -> list[bytes]:
    """Return the vectors of a list of embeddings in base64, in their order.

    Raises:
        AnswerNotWhole: they do not match `proof`, the `result` of the job's terminal event.
    """
    try:
        vectors = [base64.b64decode(item["embedding"], validate=True) for item in listed["data"]]
    except (KeyError, TypeError, ValueError):
        vectors = []
    dimensions = {len(vector) / FLOAT_BYTES for vector in vectors}
    found = (len(vectors), dimensions, hashlib.sha256(b"".join(vectors)).hexdigest())
    if found != (proof.get("inputs"), {proof.get("dimensions")}, proof.get("sha256")):
        raise AnswerNotWhole("Checksum mismatch: the result is not what the job computed.")
    return vectors


def as_lines(vectors: list[bytes]) -> Iterator[str]:
    """Write each vector as a line of JSON."""
    for vector in vectors:
        yield json.dumps(struct.unpack(f"<{len(vector) // FLOAT_BYTES}f", vector), separators=(",", ":")) + "\n"
