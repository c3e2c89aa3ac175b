"""Write errors as OpenAI's API does: envelope, types, and the headers that steer its clients.

Pure: data in, data out. Not here: status lines and responses.
"""

import math
from dataclasses import dataclass
from typing import Any

from shared.model.errors import BoundReached, ProviderRefused, RequestError, TailraceError, Unavailable, status_of
from shared.model.events import Event

_TYPES = {"insufficient_quota": "insufficient_quota", "cancelled": "cancelled", "abandoned": "cancelled"}
# Codes that OpenAI's clients know under another name.
_CODES = {"queue_full": "rate_limit_exceeded"}
_TRIED_AGAIN = frozenset({408, 409, 429})
_DEFAULT_RETRY_AFTER_S = Unavailable.retry_after_s


@dataclass(frozen=True, slots=True)
class Failure:
    """The reason why a call got no answer, or only a part of one.

    `code` is one of our error tree's, `status` its HTTP status; `retryable` says whether the same request can
    help, `retry_after_s` when, if that is known; `param` names the offending field.
    """

    code: str
    message: str
    status: int
    retryable: bool
    param: str | None = None
    retry_after_s: float | None = None


def failure_of(error: TailraceError) -> Failure:
    """Describe a raised error as a failure."""
    param = error.param if isinstance(error, RequestError | ProviderRefused) else None
    after_s = error.retry_after_s if isinstance(error, BoundReached | Unavailable | ProviderRefused) else None
    return Failure(
        code=error.code,
        message=str(error),
        status=error.status,
        retryable=error.retryable,
        param=param,
        retry_after_s=after_s,
    )


def failure_in(event: Event) -> Failure:
    """Read the failure of a `failed`, `cancelled` or `expired` event."""
    error = event.json()["error"]
    return Failure(
        code=error["code"],
        message=error["message"],
        status=status_of(error["code"]),
        retryable=error["retryable"],
        param=error.get("param"),
        retry_after_s=error.get("retry_after_s"),
    )


def envelope(message: str, type_: str, code: str | None, param: str | None) -> dict[str, Any]:
    """Write the body of an error response and the data of a stream's error frame (OpenAI API reference, errors)."""
    return {"error": {"message": message, "type": type_, "param": param, "code": code}}


def body_of(failure: Failure) -> dict[str, Any]:
    """Write the envelope of a failure."""
    return envelope(failure.message, _type_of(failure), _CODES.get(failure.code, failure.code), failure.param)


def _type_of(failure: Failure) -> str:
    # OpenAI's servers use `invalid_request_error` for 401, 403 and 404 too: status and code distinguish them.
    if failure.code in _TYPES:
        return _TYPES[failure.code]
    if failure.status == 429:
        return "rate_limit_error"
    return "server_error" if failure.status >= 500 else "invalid_request_error"


def headers_of(failure: Failure) -> dict[str, str]:
    """Return the headers from which OpenAI's clients learn whether and when to repeat the request.

    By themselves they repeat it after 408, 409, 429 and every 5xx (`_should_retry` in openai-python,
    `shouldRetry` in openai-node); `x-should-retry` overrules that. `retry-after` is in whole seconds (RFC
    9110 §10.2.3).
    """
    if failure.retryable:
        after_s = _DEFAULT_RETRY_AFTER_S if failure.retry_after_s is None else failure.retry_after_s
        return {"retry-after": str(math.ceil(after_s))}
    if failure.status in _TRIED_AGAIN or failure.status >= 500:
        return {"x-should-retry": "false"}
    return {}
