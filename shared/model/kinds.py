"""The kinds of jobs: the form of each kind's input and the place of its answer.

A new kind is one entry of `KINDS`. Not here: the checks of an input (gateway/admission/validation.py), and the
execution of a kind's jobs (worker/execution).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class InputForm(StrEnum):
    """The form of a request's input; admission has one validation for each."""

    MESSAGES = "messages"
    EMBEDDING_INPUT = "embedding_input"


class ResultForm(StrEnum):
    """The place of a job's answer: the events of its log, or vectors that are read as a result."""

    EVENTS = "events"
    VECTORS = "vectors"


@dataclass(frozen=True, slots=True)
class KindSpec:
    """One kind of job. If it `streams_text`, its log holds deltas of an answer that can continue in mid-sentence."""

    name: str
    input: InputForm
    result: ResultForm
    streams_text: bool


CHAT: Final = "chat"
EMBEDDINGS: Final = "embeddings"

KINDS: Final[Mapping[str, KindSpec]] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            KindSpec(CHAT, InputForm.MESSAGES, ResultForm.EVENTS, streams_text=True),
            KindSpec(EMBEDDINGS, InputForm.EMBEDDING_INPUT, ResultForm.VECTORS, streams_text=False),
        )
    }
)
"""All kinds by name."""


def streams_text(kind: str) -> bool:
    """Return whether jobs of this kind stream text; False for a kind that only a newer version knows."""
    return kind in KINDS and KINDS[kind].streams_text


def has_result(kind: str) -> bool:
    """Return whether jobs of this kind have a result of their own; False for a kind that only a newer version knows."""
    return kind in KINDS and KINDS[kind].result is not ResultForm.EVENTS
