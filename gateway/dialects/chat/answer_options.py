"""Hold the options with which one job is shown in one of OpenAI's completion dialects. Pure.

Not here: the request's other fields.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from shared.model.jobs import created_ms


@dataclass(frozen=True, slots=True)
class AnswerOptions:
    """The job's id, and the fields of the request that the translation depends on.

    `model` is the name that the caller used; `choices` is the request's `n`. The stored request has the same fields, so
    that an answer which is resumed is shown as it was at first.
    """

    PREFIX: ClassVar[str]
    """How the ids of this dialect's objects begin."""

    job_id: str
    model: str
    include_usage: bool = False
    choices: int = 1

    @classmethod
    def of(cls, job_id: str, model: str, request: Mapping[str, Any]) -> Self:
        """Read the options from a request."""
        return cls(job_id, model, wants_usage(request), choices_of(request))

    def head(self, kind: str) -> dict[str, Any]:
        """Return the first fields of every object of this job; `created` is in seconds since the Unix epoch."""
        return {
            "id": self.PREFIX + self.job_id.removeprefix("job_"),
            "object": kind,
            "created": created_ms(self.job_id) // 1000,
            "model": self.model,
        }


def wants_usage(request: Mapping[str, Any]) -> bool:
    """Return whether a stream ends with a chunk that holds the usage."""
    options = request.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def choices_of(request: Mapping[str, Any]) -> int:
    """Return how many choices were requested."""
    return request.get("n") or 1
