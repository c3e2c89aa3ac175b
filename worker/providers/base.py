"""What a provider is: an upstream API that turns a chat request into a stream of chunks, and inputs into vectors.

Above: fallback.py, which adds the time-outs, and attempt.py, which makes events of chunks. Below: one module
for each foreign protocol. `read_chunk` is the one place that knows the shape of a chat completion chunk; it
is pure.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from shared.bounds import CHOICES, REASON_CHARS
from shared.errors import ProviderGarbage
from worker.providers.vectors import Vectors


@dataclass(frozen=True, slots=True)
class Chunk:
    """One piece of a provider's answer.

    `deltas` are the data objects of `delta` events: the chunk's delta as it came, plus `index` when not 0,
    plus `logprobs` when there are any. `finished` holds (choice index, finish reason). `usage` is the
    provider's own count.
    """

    deltas: tuple[dict[str, Any], ...] = ()
    finished: tuple[tuple[int, str], ...] = ()
    usage: Mapping[str, Any] | None = None


class Provider(Protocol):
    """An upstream. Raises only errors of the tree (`AttemptFailed`)."""

    @property
    def name(self) -> str:
        """How `started` events and logs call it."""
        ...

    def stream(self, request: Mapping[str, Any]) -> AbstractAsyncContextManager[AsyncIterator[Chunk]]:
        """Send a chat request (OpenAI's body, without `stream`).

        Leaving the context closes the upstream's socket. Sending may wait until the first chunk is asked for.
        """
        ...

    async def embed(self, request: Mapping[str, Any]) -> Vectors:
        """Send an embeddings request (OpenAI's body, `input` a list, without `encoding_format`).

        There is a vector for each input.
        Cancelling it closes the upstream's socket.
        """
        ...

    async def models(self) -> list[str]:
        """The names of the models it serves."""
        ...

    async def close(self) -> None:
        """Give back its connections."""
        ...


def read_chunk(chunk: object) -> Chunk:
    """Read a decoded `chat.completion.chunk` (OpenAI API reference, chat/streaming).

    An empty delta is no event.

    Raises:
        ProviderGarbage: it is no such chunk.
    """
    if not isinstance(chunk, dict):
        raise ProviderGarbage("The provider sent a chunk that is no object.")
    deltas: list[dict[str, Any]] = []
    finished: list[tuple[int, str]] = []
    for choice in _choices(chunk):
        index = _index(choice)
        if delta := _delta(choice, index):
            deltas.append(delta)
        # Some providers say "" where others say null.
        if reason := choice.get("finish_reason"):
            if not isinstance(reason, str) or len(reason) > REASON_CHARS:
                raise ProviderGarbage(
                    f"The provider sent a finish reason that is no text of {REASON_CHARS} characters."
                )
            finished.append((index, reason))
    usage = chunk.get("usage")
    return Chunk(tuple(deltas), tuple(finished), usage if usage and isinstance(usage, dict) else None)


def _choices(chunk: dict[str, Any]) -> list[dict[str, Any]]:
    choices = chunk.get("choices") or []
    if not isinstance(choices, list):
        raise ProviderGarbage("The provider sent choices that are no list.")
    for choice in choices:
        if not isinstance(choice, dict):
            raise ProviderGarbage("The provider sent a choice that is no object.")
    return choices


def _index(choice: dict[str, Any]) -> int:
    index = choice.get("index") or 0
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < CHOICES:
        raise ProviderGarbage(f"The provider sent a choice whose index is no number below {CHOICES}.")
    return index


# The role is said once, by each dialect. The other two are ours to set.
_NOT_PASSED = frozenset({"role", "index", "logprobs"})


def _delta(choice: dict[str, Any], index: int) -> dict[str, Any]:
    raw = choice.get("delta") or {}
    if not isinstance(raw, dict):
        raise ProviderGarbage("The provider sent a delta that is no object.")
    # What is null or empty says nothing: an empty text is no token, an empty list no tool call.
    delta = {name: value for name, value in raw.items() if value and name not in _NOT_PASSED}
    logprobs = choice.get("logprobs")
    if isinstance(logprobs, dict) and any(logprobs.values()):
        delta["logprobs"] = logprobs
    if delta and index:
        delta["index"] = index
    return delta
