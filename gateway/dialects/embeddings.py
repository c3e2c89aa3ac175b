"""Write embeddings in OpenAI's dialect: a job's kept vectors as its list of embeddings, page by page.

Pure: bytes in, bytes out. Not here: the source of the vectors (the API's gateway/api/results.py).
"""

import base64
import struct
from enum import StrEnum
from typing import Any

from gateway.dialects.errors import Failure, failure_in
from shared.model.errors import InvalidRequest
from shared.model.events import Event, EventType, encode_data
from shared.model.jobs import FLOAT_BYTES, Embedded


class Encoding(StrEnum):
    """The form of a vector: a list of numbers, or base64 of its 32-bit floats in little-endian order."""

    FLOAT = "float"
    BASE64 = "base64"


def parse_encoding(value: object) -> Encoding:
    """Read `encoding_format`; none at all is `float` (OpenAI API reference, embeddings/create).

    Raises:
        InvalidRequest: it is neither.
    """
    try:
        return Encoding.FLOAT if value is None else Encoding(str(value))
    except ValueError:
        known = ", ".join(Encoding)
        raise InvalidRequest(f"encoding_format must be one of: {known}.", param="encoding_format") from None


class EmbeddingsEnd:
    """Read how a job of embeddings ended; its vectors are read separately. See `synchronous_call.Aggregator`."""

    def __init__(self) -> None:
        self.ended = False
        self.failure: Failure | None = None

    def accept(self, event: Event) -> None:
        """Take the job's next event."""
        match event.type:
            case EventType.COMPLETED:
                self.ended = True
            case EventType.FAILED | EventType.CANCELLED | EventType.EXPIRED:
                self.ended = True
                self.failure = failure_in(event)
            case _:
                pass

    def body(self) -> dict[str, Any]:
        """Return an empty body: the list is written piece by piece."""
        raise NotImplementedError


class EmbeddingList:
    """Write OpenAI's list of embeddings (API reference, embeddings/object) from a job's kept result.

    It is `opening`, the pages' `items` in their order, and `closing`. `extra` fields come on top of OpenAI's.
    """

    closing = b"]}"

    def __init__(self, model: str, embedded: Embedded | None, encoding: Encoding, **extra: Any) -> None:
        tokens = embedded.prompt_tokens if embedded else 0
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        head = {"object": "list", "model": model, "usage": usage, **extra, "data": []}
        self.opening = encode_data(head).removesuffix(self.closing)
        self._vector_bytes = embedded.vector_bytes if embedded else 0
        self._encoding = encoding
        self._index = 0

    def items(self, page: bytes) -> bytes:
        """Write the embeddings with whole vectors in this page, with a comma before each but the list's first."""
        items = []
        for start in range(0, len(page), self._vector_bytes):
            vector = page[start : start + self._vector_bytes]
            item = {"object": "embedding", "index": self._index, "embedding": self._written(vector)}
            items.append((b"," if self._index else b"") + encode_data(item))
            self._index += 1
        return b"".join(items)

    def _written(self, vector: bytes) -> object:
        if self._encoding is Encoding.BASE64:
            return base64.b64encode(vector).decode("ascii")
        return struct.unpack(f"<{len(vector) // FLOAT_BYTES}f", vector)
