"""The errors that a request gets as its answer: the caller's fault (4xx), or ours and passing (503).

Not here: errors of a job that was accepted (attempt.py).
"""

from typing import ClassVar

from shared.model.errors.base import TailraceError


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
    """The key is missing or unknown."""

    code = "invalid_api_key"
    status = 401


class Forbidden(RequestError):
    """The key is valid but lacks this right."""

    code = "forbidden"
    status = 403


class NotFound(RequestError):
    """The address has nothing that this key may see."""

    code = "not_found"
    status = 404


class JobNotFound(NotFound):
    """Unknown, expired or another tenant's: the three look alike from outside (invariant 11)."""

    code = "job_not_found"


class WorkflowNotFound(NotFound):
    """The workflow is unknown, expired, or another tenant's."""

    code = "workflow_not_found"


class DeadLetterNotFound(NotFound):
    """No job of this id has failed for good, or it is not kept as a dead letter any more."""

    code = "dead_letter_not_found"


class ResponseNotFound(NotFound):
    """The response is unknown, expired, deleted, not stored, or another tenant's."""

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
    """A bound is reached. `retry_after_s` goes into `Retry-After`."""

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


class TooManyLargeRequests(BoundReached):
    """As many of the tenant's large requests wait at this gateway as may."""

    code = "too_many_large_requests"

    @staticmethod
    def at(most: int) -> "TooManyLargeRequests":
        """Make the error of this bound."""
        return TooManyLargeRequests(
            f"{most} of your large requests wait to be read at this gateway, which is the limit; "
            "try again when some have been answered."
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
    """This process is stopping; another one answers."""

    code = "draining"
