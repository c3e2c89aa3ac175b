"""The members of a provider: it turns a chat request into a stream of chunks and, if it can embed, inputs into vectors.

Not here: how a provider is chosen and opened (worker/upstream/providers/protocols.py), time-outs
(worker/upstream/chain.py), and reading an upstream's chunks (worker/upstream/wire/chunk_reader.py).
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, runtime_checkable

from worker.upstream.wire.chunk import Chunk
from worker.upstream.wire.vectors import Vectors


class Provider(Protocol):
    """An upstream. Raises only errors of the tree (`AttemptFailed`)."""

    @property
    def name(self) -> str:
        """Return its name in `started` events and logs."""
        ...

    def stream(self, request: Mapping[str, Any]) -> AbstractAsyncContextManager[AsyncIterator[Chunk]]:
        """Send a chat request (OpenAI's body, without `stream`).

        Leaving the context closes the upstream's socket. Sending may wait until the first chunk is requested.
        """
        ...

    async def models(self) -> list[str]:
        """Return the names of the models it serves."""
        ...

    async def close(self) -> None:
        """Close its connections."""
        ...


@runtime_checkable
class EmbeddingProvider(Protocol):
    """A provider that can also embed. A provider without these members refuses embeddings."""

    async def embed(self, request: Mapping[str, Any]) -> Vectors:
        """Send an embeddings request (OpenAI's body, `input` a list, without `encoding_format`).

        Return one vector for each input. Cancelling it closes the upstream's socket.
        """
        ...
