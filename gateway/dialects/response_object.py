"""The response object of OpenAI's Responses: its fields, its id, its usage.

Above: dialects/responses.py, which fills it from a job's events, and api/responses.py. Below: jobs' ids. Pure. Not
here: what its output holds (response_output.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.jobs import created_ms

# The fields of a response that say what was asked, where nothing was.
_ASKED: Mapping[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": None,
    "store": True,
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": None,
    "truncation": "disabled",
    "user": None,
}


@dataclass(frozen=True, slots=True)
class ResponseOptions:
    """What the translation of a job depends on: all of it is fixed when the job is made.

    `model` is the name the caller used; a `background` job lives without its caller; `asked` is the request's fields
    that the response says again.
    """

    job_id: str
    model: str
    background: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)
    asked: Mapping[str, Any] = field(default_factory=dict)

    @property
    def bare_id(self) -> str:
        """The characters that all ids of this job share."""
        return self.job_id.removeprefix("job_")


def response_id(job_id: str) -> str:
    """How this dialect calls a job."""
    return "resp_" + job_id.removeprefix("job_")


def job_id_of(response: str) -> str:
    """The job of a response's id; empty if it is no response's id."""
    return "job_" + response.removeprefix("resp_") if response.startswith("resp_") else ""


def response_object(
    options: ResponseOptions,
    status: str,
    output: Sequence[Mapping[str, Any]] = (),
    *,
    error: Mapping[str, Any] | None = None,
    reason: str | None = None,
    usage: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A response (OpenAI API reference, responses/object); `reason` says why it is incomplete."""
    return {
        "id": response_id(options.job_id),
        "object": "response",
        "created_at": created_ms(options.job_id) // 1000,
        "status": status,
        "background": options.background,
        "error": error,
        "incomplete_details": None if reason is None else {"reason": reason},
        "model": options.model,
        "output": output,
        **_ASKED,
        **options.asked,
        "metadata": options.metadata,
        "usage": usage,
    }


def usage_of(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """The usage as Responses have it; clients rely on every field of it."""
    usage = outcome.get("usage") or {}
    return {
        "input_tokens": usage.get("prompt_tokens", 0),
        "input_tokens_details": _counts(usage, "prompt_tokens_details", "cached_tokens", "cache_write_tokens"),
        "output_tokens": usage.get("completion_tokens", 0),
        "output_tokens_details": _counts(usage, "completion_tokens_details", "reasoning_tokens"),
        "total_tokens": usage.get("total_tokens", 0),
    }


def _counts(usage: Mapping[str, Any], details: str, *names: str) -> dict[str, int]:
    given = usage.get(details)
    found = given if isinstance(given, dict) else {}
    return {name: count if isinstance(count := found.get(name), int) else 0 for name in names}
