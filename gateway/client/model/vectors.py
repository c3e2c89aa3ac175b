"""What the client makes of a result that is vectors: it is proven, then it is lines of JSON. Pure.

Above: commands.py, which has the result from connection.py and the proof from the terminal event. Not here: how a job
that has a result is told from one that has an answer.
"""

import base64
import hashlib
import json
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from shared.model.errors import AnswerNotWhole
from shared.model.jobs import FLOAT_BYTES


def vectors_of(listed: Mapping[str, Any], proof: Mapping[str, Any]) -> list[bytes]:
    """The vectors of a list of embeddings in base64, in their order.

    Raises:
        AnswerNotWhole: they are not what `proof`, the `result` of the job's terminal event, says.
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
    """Each vector as a line of JSON."""
    for vector in vectors:
        yield json.dumps(struct.unpack(f"<{len(vector) // FLOAT_BYTES}f", vector), separators=(",", ":")) + "\n"
