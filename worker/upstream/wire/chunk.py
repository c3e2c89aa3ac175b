"""One piece of an answer, in the form that all providers share. Not here: how it is read (chunk_reader.py)."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Chunk(NamedTuple):
    """One piece of a provider's answer.

    `deltas` are the data objects of `delta` events, in the one form of README, "Events". `finished` holds (choice
    index, finish reason). `usage` is the provider's own count.
    """

    deltas: tuple[dict[str, Any], ...] = ()
    finished: tuple[tuple[int, str], ...] = ()
    usage: Mapping[str, Any] | None = None
