"""A provider's answer to an embeddings request, checked and packed into the bytes of a result.

Pure. Not here: requests, and the use of the vectors (worker/execution/embedding.py).
"""

import base64
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from shared.model.bounds import DIMENSIONS
from shared.model.errors import ProviderGarbage
from shared.model.jobs import FLOAT_BYTES

_MOST_TOKENS = 2**53


@dataclass(frozen=True, slots=True)
class Vectors:
    """The vectors of some inputs, in their order: `dimensions` 32-bit floats each, in little-endian order, joined.

    `prompt_tokens` is the provider's own count, None if it sent none.
    """

    data: bytes
    dimensions: int
    prompt_tokens: int | None = None


def read_vectors(answer: object, count: int) -> Vectors:
    """Read the decoded answer to a request with `count` inputs (OpenAI API reference, embeddings/object).

    An embedding is base64 of little-endian 32-bit floats or a list of numbers, whichever format was requested.

    Raises:
        ProviderGarbage: the answer has not exactly one vector for each input, or the vectors differ in length or hold
            a value that is not a finite number.
    """
    items = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(answer, dict) or not isinstance(items, list) or len(items) != count:
        raise ProviderGarbage(f"The provider did not send one vector for each of {count} inputs.")
    places: dict[int, bytes] = {}
    for position, item in enumerate(items):
        if not isinstance(item, dict):
            raise ProviderGarbage("The provider sent an embedding that is not an object.")
        index = item.get("index", position)
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < count or index in places:
            raise ProviderGarbage("The provider sent an embedding index that is out of range or duplicated.")
        places[index] = _vector(item.get("embedding"))
    vectors = [places[index] for index in range(count)]
    if len({len(vector) for vector in vectors}) > 1:
        raise ProviderGarbage("The provider sent vectors of different lengths.")
    return Vectors(b"".join(vectors), len(vectors[0]) // FLOAT_BYTES, _prompt_tokens(answer.get("usage")))


def pack(numbers: Sequence[float]) -> bytes:
    """Pack a vector into its bytes.

    Raises:
        struct.error, OverflowError: the values are not numbers, or are too large for 32 bits.
    """
    return struct.pack(f"<{len(numbers)}f", *numbers)


def _vector(embedding: object) -> bytes:
    try:
        vector = base64.b64decode(embedding, validate=True) if isinstance(embedding, str) else _packed(embedding)
        numbers = struct.unpack(f"<{len(vector) // FLOAT_BYTES}f", vector)
    except (ValueError, OverflowError, struct.error) as error:
        raise ProviderGarbage("The provider sent an embedding that is neither numbers nor base64 of them.") from error
    if not 0 < len(numbers) <= DIMENSIONS:
        raise ProviderGarbage(f"The provider sent a vector that does not have 1 to {DIMENSIONS} dimensions.")
    # The sum of 32-bit floats has room in a double: it is finite if each of them is.
    if not math.isfinite(sum(numbers)):
        raise ProviderGarbage("The provider sent a vector with a number that is not finite.")
    return vector


def _packed(embedding: object) -> bytes:
    if not isinstance(embedding, list):
        raise ValueError("not a list")
    return pack(embedding)


def _prompt_tokens(usage: object) -> int | None:
    tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    is_count = isinstance(tokens, int) and not isinstance(tokens, bool) and 0 <= tokens <= _MOST_TOKENS
    return tokens if is_count else None
