"""An error as data: the object in a job's record, the side at fault, and the status of a code.

Not here: the forms that dialects give it (gateway/dialects).
"""

from shared.model.errors.attempt import (
    REFUSALS,
    ParentFailed,
    ParentGone,
    ParentsTooLarge,
    ProviderGarbage,
    ProviderRefused,
    ProviderTimeout,
    ProviderTruncated,
    ProviderUnreachable,
    TenantFull,
)
from shared.model.errors.base import TailraceError
from shared.model.errors.request import RequestError


def problem_of(error: TailraceError) -> dict[str, object]:
    """Return an error as data: the `error` object of a terminal event and of a job's record.

    `type` is the error's family, for programs that need only the side at fault. `param` and `retry_after_s` (seconds)
    are present if they are known.
    """
    if is_request_fault(error.code):
        family = "request_error"
    else:
        family = "provider_error" if is_provider_fault(error) else "job_error"
    problem: dict[str, object] = {
        "type": family,
        "code": error.code,
        "message": str(error),
        "retryable": error.retryable,
    }
    if isinstance(error, RequestError | ProviderRefused) and error.param is not None:
        problem["param"] = error.param
    if isinstance(error, ProviderRefused) and error.retry_after_s is not None:
        problem["retry_after_s"] = error.retry_after_s
    return problem


def is_provider_fault(error: TailraceError) -> bool:
    """Return whether the upstream is to blame, and not the request that it refused."""
    return isinstance(error, _PROVIDER_FAULTS) and not is_request_fault(error.code)


def is_request_fault(code: str) -> bool:
    """Return whether this code blames the tenant's request or stored bytes, so that nothing is broken."""
    return code in _REQUEST_FAULTS


def needs_a_person(code: str) -> bool:
    """Return whether a job that failed with this code becomes a dead letter.

    A job that failed because of its parents is repeated with them: the parent is the dead letter.
    """
    return not is_request_fault(code) and code not in _PARENTS


_PARENTS = frozenset({ParentFailed.code, ParentGone.code, ParentsTooLarge.code})
_REQUEST_FAULTS = frozenset({"invalid_request", "context_length_exceeded", "content_policy_violation", TenantFull.code})
_PROVIDER_FAULTS = (ProviderTimeout, ProviderUnreachable, ProviderRefused, ProviderTruncated, ProviderGarbage)


def status_of(code: str) -> int:
    """Return the HTTP status of an error code from a job's record; 500 for an unknown code."""
    if code in REFUSALS:
        return REFUSALS[code][0]
    return _STATUSES.get(code, 500)


def _statuses(root: type[TailraceError]) -> dict[str, int]:
    found = {root.code: root.status} if "code" in vars(root) and isinstance(root.code, str) else {}
    for child in root.__subclasses__():
        found |= _statuses(child)
    return found


_STATUSES = _statuses(TailraceError)
