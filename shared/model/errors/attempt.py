"""The errors of a job that was accepted: the causes that end an attempt, and perhaps the job, without success.

Not here: whether another attempt follows (worker/model/retry.py).
"""

from shared.model.errors.base import TailraceError

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
"""The meaning of a provider's refusal for the caller: code -> (HTTP status, whether trying again can help).

`server_error` is a failure inside the upstream, `provider_error` any refusal without a code of its own.
`upstream_auth` is a 502, since the provider refused our key and not the caller's.
"""


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

    `code` is one of `REFUSALS`; `param` the field it blames; `retry_after_s` the wait that it asked for, in seconds.
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


class ProviderUnable(ProviderRefused):
    """The provider can't do this for any of its models, so that nothing was sent to it."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="model_not_found", param="model")


class ProviderTruncated(AttemptFailed):
    """The provider's stream ended without a finish reason: never success (invariant 6)."""

    code = "provider_truncated"
    retryable = True


class ProviderGarbage(AttemptFailed):
    """The provider sent something that is not its protocol."""

    code = "provider_garbage"
    retryable = True


class FunctionFailed(AttemptFailed):
    """The function of the job's kind raised an error; the log has the traceback."""

    code = "function_failed"
    status = 500
    retryable = True


class FunctionTimeout(AttemptFailed):
    """The function of the job's kind took longer than its kind allows."""

    code = "function_timeout"
    status = 504
    retryable = True


class RetryLater(AttemptFailed):
    """The function of the job's kind asks for another attempt, after so many seconds."""

    code = "retry_later"
    status = 503
    retryable = True

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"The function asked for another attempt after {retry_after_s:g} s.")
        self.retry_after_s = retry_after_s


class PermanentFailure(AttemptFailed):
    """The function of the job's kind ends the job as failed, with a code and a sentence of its own."""

    code: str  # type: ignore[misc]  # a function chooses it

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


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
    """Each provider that could answer has failed so often that none gets calls for a while."""

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
        """Make the error of an execution that no worker ended."""
        return WorkerLost("The worker that ran the job was lost.")


class Drained(Interrupted):
    """The worker is stopping and has returned the job to the queue."""

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


class ParentFailed(AttemptFailed):
    """A job that this one comes after did not complete."""

    code = "parent_failed"
    status = 424


class ParentGone(AttemptFailed):
    """A job that this one comes after is not stored any more, or its answer is not."""

    code = "parent_gone"
    status = 410


class ParentsTooLarge(AttemptFailed):
    """The answers that a job takes from its parents are too large for its request."""

    code = "parents_too_large"
    status = 413

    @staticmethod
    def at(most: int) -> "ParentsTooLarge":
        """Make the error at a bound."""
        return ParentsTooLarge(f"The answers that the job takes from others have more than {most} characters.")


class DeadlinePassed(AttemptFailed):
    """`timeout_s` passed since the job was submitted, or since the jobs that it comes after had ended."""

    code = "deadline_passed"
    status = 504


class Cancelled(AttemptFailed):
    """The job was cancelled on request."""

    code = "cancelled"
    status = 499

    @staticmethod
    def because(code: str) -> "Cancelled":
        """Make the error for a record's `cancel_code`."""
        if code == Abandoned.code:
            return Abandoned("The job had no reader, so it was cancelled.")
        return Cancelled("The job was cancelled on request.")


class Abandoned(Cancelled):
    """The job had no viewer for too long."""

    code = "abandoned"


class InternalError(AttemptFailed):
    """A defect of ours; the log has the traceback."""

    code = "internal_error"
    status = 500
