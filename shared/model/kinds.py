"""The facts about a kind of job that both processes use: the place of its answer, and whether it streams text.

Not here: the admission of a kind's jobs (gateway/specs/kinds.py), and their execution
(worker/execution/executions.py). Each of them is a registry that a composition root passes in.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class ResultForm(StrEnum):
    """The place of a job's answer: the events of its log, stored vectors, or a value in its terminal event."""

    EVENTS = "events"
    VECTORS = "vectors"
    VALUE = "value"


@dataclass(frozen=True, slots=True)
class KindSpec:
    """One kind of job. If it `streams_text`, its log holds deltas of an answer that can continue in mid-sentence.

    A job has a model if its kind `calls_provider`. Otherwise its input is one value, and all names in it are its own.
    """

    name: str
    result: ResultForm
    streams_text: bool
    calls_provider: bool = True


CHAT: Final = "chat"
EMBEDDINGS: Final = "embeddings"

CHAT_KIND: Final = KindSpec(CHAT, ResultForm.EVENTS, streams_text=True)
EMBEDDINGS_KIND: Final = KindSpec(EMBEDDINGS, ResultForm.VECTORS, streams_text=False)
