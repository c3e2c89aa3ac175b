"""Every error of Tailrace, as one tree.

`gateway/http/errors.py` turns errors into HTTP, and `worker/execution/ending.py` turns them into terminal events.
This module knows neither of them: an error is a code, a sentence, a status and whether trying again can help.

    TailraceError
    ├── RequestError            the caller's fault: 4xx
    │   ├── InvalidRequest        400, names the field
    │   │   └── BadCursor
    │   ├── Unauthenticated       401
    │   ├── Forbidden             403
    │   ├── NotFound              404
    │   │   ├── JobNotFound
    │   │   ├── DeadLetterNotFound
    │   │   ├── ResponseNotFound
    │   │   └── ModelNotFound
    │   ├── MethodNotAllowed      405
    │   ├── BodyTooLarge          413
    │   ├── MisdirectedRequest    421
    │   ├── IdempotencyConflict   422
    │   └── BoundReached          429, names the bound
    │       ├── QueueFull
    │       ├── TooManyWaiting
    │       ├── TooManyStreams
    │       └── TooManyBytes
    ├── Unavailable             503: ours, and passing
    │   ├── RedisUnavailable
    │   ├── MemoryFull
    │   └── Draining
    ├── AttemptFailed           why an attempt, and with it perhaps the job, ended badly
    │   ├── ProviderTimeout
    │   ├── ProviderUnreachable
    │   ├── ProviderRefused
    │   ├── ProviderTruncated
    │   ├── ProviderGarbage
    │   ├── OutputTooLarge
    │   ├── TenantFull
    │   ├── CircuitOpen
    │   ├── Interrupted           its execution ended before the provider was through
    │   │   ├── WorkerLost
    │   │   ├── Drained
    │   │   └── LogBehind
    │   ├── PoisonJob
    │   ├── BrokenJob
    │   ├── DeadlinePassed
    │   ├── Cancelled
    │   │   └── Abandoned
    │   └── InternalError
    ├── ClientError             why the command line could not do what it was asked
    │   ├── GatewayUnreachable    nobody answers, or not for long enough
    │   ├── GatewayRefused        the gateway's own error, as it told it
    │   ├── GatewayGarbage        what answers is no gateway of Tailrace
    │   └── AnswerNotWhole        the answer can't be proven, or was taken back
    ├── EventTooLarge           an event of a stream is larger than its reader takes
    └── StartupError            this process can't start; the sentence says what to change
"""

from typing import ClassVar


class TailraceError(Exception):
    """The root. `str(error)` is a sentence for the person who has to act on it."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False


class RequestError(TailraceError):
    """The request can't be served as it is; nothing was changed.

    `param` names the offending field, in the caller's own spelling.
    """

    code = "invalid_request"
    status = 400

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class InvalidRequest(RequestError):
    """A field is missing, of the wrong type, out of range, or not there yet."""


class BadCursor(InvalidRequest):
    """The cursor is not an event id (`<epoch>-<seq>`, `-1` or `0`)."""

    code = "bad_cursor"


class Unauthenticated(RequestError):
    """No key, or one that nobody issued."""

    code = "invalid_api_key"
    status = 401


class Forbidden(RequestError):
    """A good key that may not do this."""

    code = "forbidden"
    status = 403


class NotFound(RequestError):
    """There is nothing at this address, or nothing that this key may see."""

    code = "not_found"
    status = 404


class JobNotFound(NotFound):
    """Unknown, expired or another tenant's: the three look alike from outside (invariant 11)."""

    code = "job_not_found"


class DeadLetterNotFound(NotFound):
    """No job of this id has failed for good, or it is not kept as a dead letter any more."""

    code = "dead_letter_not_found"


class ResponseNotFound(NotFound):
    """The same of a response, or one that was deleted or was not to be stored."""

    code = "response_not_found"


class ModelNotFound(NotFound):
    """No route serves a model of this name."""

    code = "model_not_found"


class MethodNotAllowed(RequestError):
    """The address exists, the method does not. `allowed` goes into the `Allow` header."""

    code = "method_not_allowed"
    status = 405

    def __init__(self, message: str, *, allowed: str) -> None:
        super().__init__(message)
        self.allowed = allowed


class BodyTooLarge(RequestError):
    """The body is over `max_body_bytes`."""

    code = "body_too_large"
    status = 413


class MisdirectedRequest(RequestError):
    """The request names a host that this gateway does not have (RFC 9110 §15.5.20)."""

    code = "misdirected_request"
    status = 421


class IdempotencyConflict(RequestError):
    """The Idempotency-Key was used before with another body (draft-ietf-httpapi-idempotency-key-header §2.7)."""

    code = "idempotency_conflict"
    status = 422


class BoundReached(RequestError):
    """There is as much of something as there may be. `retry_after_s` goes into `Retry-After`."""

    code = "bound_reached"
    status = 429
    retryable = True
    retry_after_s: ClassVar[int] = 5


class QueueFull(BoundReached):
    """The lane holds as many jobs as it may."""

    code = "queue_full"


class TooManyWaiting(BoundReached):
    """The tenant has as many waiting jobs as it may."""

    code = "too_many_waiting"

    @staticmethod
    def at(most: int) -> "TooManyWaiting":
        """Make the error of this bound."""
        return TooManyWaiting(
            f"{most} of your jobs are waiting, which is the limit (max_waiting_per_tenant); "
            "try again when some have started."
        )


class TooManyStreams(BoundReached):
    """The tenant has as many open streams at this gateway as it may."""

    code = "too_many_streams"

    @staticmethod
    def at(most: int) -> "TooManyStreams":
        """Make the error of this bound."""
        return TooManyStreams(
            f"{most} of your streams are open at this gateway, which is the limit (max_streams_per_tenant); "
            "try again when one has ended, or ask without a stream."
        )


class TooManyBytes(BoundReached):
    """The tenant's jobs and conversations keep as many bytes as new jobs may fill."""

    code = "too_many_bytes"
    retry_after_s = 30

    @staticmethod
    def at(most: int) -> "TooManyBytes":
        """Make the error of this bound."""
        return TooManyBytes(
            f"Your jobs and conversations use nearly all of their limit of {most} bytes "
            "(max_bytes_per_tenant); delete some, or try again when some have expired."
        )


class Unavailable(TailraceError):
    """Not now, and not the caller's fault. `retry_after_s` goes into `Retry-After`."""

    code = "unavailable"
    status = 503
    retryable = True
    retry_after_s: ClassVar[int] = 2


class RedisUnavailable(Unavailable):
    """Redis did not answer."""

    code = "redis_unavailable"


class MemoryFull(Unavailable):
    """Redis has memory left for the jobs that run only."""

    code = "memory_full"
    retry_after_s = 30


class Draining(Unavailable):
    """This process is on its way out; another one answers."""

    code = "draining"


class AttemptFailed(TailraceError):
    """An attempt ended without success. `code` and `retryable` go into the job's error."""

    code = "attempt_failed"
    status = 502


class ProviderTimeout(AttemptFailed):
    """The provider was silent for too long: before the first token, between two, or in all."""

    code = "provider_timeout"
    status = 504
    retryable = True


class ProviderUnreachable(AttemptFailed):
    """The connection to the provider could not be made, or broke."""

    code = "provider_unreachable"
    retryable = True


class ProviderRefused(AttemptFailed):
    """The provider answered with an error.

    `code` is one of `REFUSALS`; `param` the field it blames; `retry_after_s` what it asked us to wait, in seconds.
    """

    code: str  # type: ignore[misc]  # the one error whose class can't know its code
    retryable: bool  # type: ignore[misc]
    status: int  # type: ignore[misc]

    def __init__(
        self,
        message: str,
        *,
        code: str = "provider_error",
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status, self.retryable = REFUSALS[code]
        self.param = param
        self.retry_after_s = retry_after_s


class ProviderTruncated(AttemptFailed):
    """The provider's stream ended without a finish reason: never success (invariant 6)."""

    code = "provider_truncated"
    retryable = True


class ProviderGarbage(AttemptFailed):
    """The provider sent something that is not its protocol."""

    code = "provider_garbage"
    retryable = True


class OutputTooLarge(AttemptFailed):
    """The job's log would pass `max_log_bytes`."""

    code = "output_too_large"


class TenantFull(AttemptFailed):
    """The job's tenant keeps as many bytes as it may, and the job would add to them."""

    code = "tenant_full"
    status = 429

    @staticmethod
    def of_a_job() -> "TenantFull":
        """Make the error of a job that runs."""
        return TenantFull(
            "Your jobs and conversations use all bytes that they may (max_bytes_per_tenant), so this job ended; "
            "delete some, or try again when some have expired."
        )


class CircuitOpen(AttemptFailed):
    """Each provider that could answer has failed so often that none is asked for a while."""

    code = "circuit_open"
    status = 503
    retryable = True


class Interrupted(AttemptFailed):
    """An execution ended before its provider was through, by no fault of either: another one follows."""

    code = "interrupted"
    retryable = True


class WorkerLost(Interrupted):
    """The worker died, or was silent for longer than its lease."""

    code = "worker_lost"

    @staticmethod
    def because_of_silence() -> "WorkerLost":
        """The error of an execution that nobody has ended."""
        return WorkerLost("The worker that ran the job was lost.")


class Drained(Interrupted):
    """The worker is on its way out, and has handed the job back."""

    code = "drain"


class LogBehind(Interrupted):
    """Redis has forgotten a part of the log that the worker could not send again."""

    code = "behind"


class PoisonJob(AttemptFailed):
    """Each worker that ran the job was lost, and none got any further than the one before."""

    code = "poison_job"


class BrokenJob(AttemptFailed):
    """The job's record or request can't be read by this version."""

    code = "broken_job"


class DeadlinePassed(AttemptFailed):
    """`timeout_s` went by since submit."""

    code = "deadline_passed"
    status = 504


class Cancelled(AttemptFailed):
    """Somebody asked for the end."""

    code = "cancelled"
    status = 499

    @staticmethod
    def because(code: str) -> "Cancelled":
        """The error for a record's `cancel_code`."""
        if code == Abandoned.code:
            return Abandoned("The job had no reader, so it was cancelled.")
        return Cancelled("The job was cancelled on request.")


class Abandoned(Cancelled):
    """Everybody left, or nobody came."""

    code = "abandoned"


class InternalError(AttemptFailed):
    """A defect of ours; the log has the traceback."""

    code = "internal_error"
    status = 500


class ClientError(TailraceError):
    """The command line could not do what it was asked."""

    code = "client_error"


class GatewayUnreachable(ClientError):
    """Nobody answers at the gateway's address, or not for as long as the caller has patience."""

    code = "gateway_unreachable"


class GatewayRefused(ClientError):
    """The gateway answered with an error. `answered` is its HTTP status, `told` its code where it told one."""

    code = "gateway_refused"

    def __init__(self, message: str, *, answered: int, told: str | None = None) -> None:
        super().__init__(message)
        self.answered = answered
        self.told = told


class GatewayGarbage(ClientError):
    """What answers at the gateway's address does not speak Tailrace's protocol."""

    code = "gateway_garbage"


class AnswerNotWhole(ClientError):
    """The terminal event does not prove what was read, or a part that was written has been taken back since."""

    code = "answer_not_whole"


class EventTooLarge(TailraceError):
    """An event of a stream is larger than its reader takes; what that means, the reader's owner says."""

    code = "event_too_large"


class StartupError(TailraceError):
    """This process refuses to start."""

    code = "startup_failed"


REFUSALS: dict[str, tuple[int, bool]] = {
    "invalid_request": (400, False),
    "context_length_exceeded": (400, False),
    "content_policy_violation": (400, False),
    "model_not_found": (404, False),
    "rate_limit_exceeded": (429, True),
    "insufficient_quota": (429, False),
    "upstream_auth": (502, False),
    "provider_error": (502, False),
    "server_error": (502, True),
    "provider_overloaded": (503, True),
}
"""What a provider's refusal means to our caller: code -> (HTTP status, whether trying again can help).

`server_error` is the upstream's own trouble, `provider_error` what nobody has a word for. `upstream_auth` is a 502,
since it is our key that the provider refused and not the caller's.
"""


def problem_of(error: TailraceError) -> dict[str, object]:
    """An error as data: the `error` object of a terminal event and of a job's record.

    `type` is the error's family, for programs that only want to know whose fault it was; `param` and `retry_after_s`
    (seconds) are there where they are known.
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
    """Return whether a job failed with this code because of what its tenant asked for, or keeps: nothing is broken."""
    return code in _REQUEST_FAULTS


_REQUEST_FAULTS = frozenset({"invalid_request", "context_length_exceeded", "content_policy_violation", TenantFull.code})
_PROVIDER_FAULTS = (ProviderTimeout, ProviderUnreachable, ProviderRefused, ProviderTruncated, ProviderGarbage)


def status_of(code: str) -> int:
    """The HTTP status of an error code that was read back from a job; 500 for one that this version doesn't know."""
    if code in REFUSALS:
        return REFUSALS[code][0]
    return _STATUSES.get(code, 500)


def _statuses(root: type[TailraceError]) -> dict[str, int]:
    found = {root.code: root.status} if "code" in vars(root) and isinstance(root.code, str) else {}
    for child in root.__subclasses__():
        found |= _statuses(child)
    return found


_STATUSES = _statuses(TailraceError)
