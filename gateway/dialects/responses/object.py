"""Write the response object of OpenAI's Responses: its fields, its id, its usage. Pure.

Not here: the items of its output (output.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.dialects.errors import Failure, body_of
from gateway.dialects.responses.tools import ADDITIONAL_TOOLS
from shared.model.jobs import created_ms

# Fields of a response that repeat the request, with their defaults.
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
_SUMMARIES = ("auto", "concise", "detailed")
_TIERS = ("default", "flex", "scale", "priority", "ultrafast")
# Codes that OpenAI's own clients know, though its reference does not list them: Codex ends a turn at once.
_KNOWN_CODES = frozenset({"context_length_exceeded", "insufficient_quota"})


@dataclass(frozen=True, slots=True)
class ResponseOptions:
    """Hold the facts that the translation of a job depends on: all are fixed when the job is made.

    `model` is the name the caller used; a `background` job lives without its caller; `asked` is the request's fields
    that the response repeats.
    """

    job_id: str
    model: str
    background: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)
    asked: Mapping[str, Any] = field(default_factory=dict)

    @property
    def bare_id(self) -> str:
        """Return the characters that all ids of this job share."""
        return self.job_id.removeprefix("job_")

    @property
    def wants_summary(self) -> bool:
        """Return whether the reasoning is shown as a summary too: many clients show nothing else of it."""
        reasoning = self.asked.get("reasoning")
        given = reasoning if isinstance(reasoning, dict) else {}
        return (given.get("summary") or given.get("generate_summary")) in _SUMMARIES


def response_id(job_id: str) -> str:
    """Write the id of a job in this dialect."""
    return "resp_" + job_id.removeprefix("job_")


def job_id_of(response: str) -> str:
    """Read the job of a response's id; empty if the id is not valid."""
    return "job_" + response.removeprefix("resp_") if response.startswith("resp_") else ""


def response_object(
    options: ResponseOptions,
    status: str,
    output: Sequence[Mapping[str, Any]] = (),
    *,
    error: Mapping[str, Any] | None = None,
    reason: str | None = None,
    usage: Mapping[str, Any] | None = None,
    service_tier: str | None = None,
) -> dict[str, Any]:
    """Write a response (OpenAI API reference, responses/object).

    `reason` says why it is incomplete. `service_tier` is the upstream's word for the tier that was used.
    """
    shown = {name: value for name, value in options.asked.items() if name != ADDITIONAL_TOOLS}
    if service_tier is not None:
        shown["service_tier"] = service_tier
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
        **shown,
        "metadata": options.metadata,
        "usage": usage,
    }


def error_of(failure: Failure) -> dict[str, Any]:
    """Write a failed response's error. A client repeats `server_error` and `rate_limit_exceeded`, and nothing else."""
    if failure.code in _KNOWN_CODES:
        code = failure.code
    elif failure.status == 429:
        code = "rate_limit_exceeded"
    else:
        code = "server_error" if failure.retryable or failure.status >= 500 else "invalid_prompt"
    error = body_of(failure)["error"]
    return {"code": code, "message": failure.message, "param": failure.param, "type": error["type"]}


def tier_of(delta: Mapping[str, Any]) -> str | None:
    """Read the service tier that a delta names as used, if clients know it."""
    extra = delta.get("chunk_extra")
    tier = extra.get("service_tier") if isinstance(extra, dict) else None
    return tier if tier in _TIERS else None


def usage_of(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """Write the usage as Responses have it; clients rely on every field of it."""
    usage = outcome.get("usage") or {}
    cache_hits = {"cached_tokens": usage.get("prompt_cache_hit_tokens")}
    return {
        "input_tokens": usage.get("prompt_tokens", 0),
        "input_tokens_details": _counts(
            cache_hits | _details(usage, "prompt_tokens_details"), "cached_tokens", "cache_write_tokens"
        ),
        "output_tokens": usage.get("completion_tokens", 0),
        "output_tokens_details": _counts(_details(usage, "completion_tokens_details"), "reasoning_tokens"),
        "total_tokens": usage.get("total_tokens", 0),
    }


def _details(usage: Mapping[str, Any], name: str) -> dict[str, Any]:
    given = usage.get(name)
    return {name: count for name, count in given.items() if count is not None} if isinstance(given, dict) else {}


def _counts(given: Mapping[str, Any], *names: str) -> dict[str, int]:
    return {name: count if isinstance(count := given.get(name), int) else 0 for name in names}
