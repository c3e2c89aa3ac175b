"""Every error of Tailrace, as one tree.

`gateway/http/errors.py` turns errors into HTTP, and `worker/execution/ending.py` turns them into terminal events.
This package imports neither of them. An error is a code, a sentence, a status, and whether a retry can help.

    TailraceError
    ├── RequestError            the caller's fault: 4xx
    │   ├── InvalidRequest        400, names the field
    │   │   └── BadCursor
    │   ├── Unauthenticated       401
    │   ├── Forbidden             403
    │   ├── NotFound              404
    │   │   ├── JobNotFound
    │   │   ├── WorkflowNotFound
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
    │       ├── TooManyLargeRequests
    │       └── TooManyBytes
    ├── Unavailable             503, for a while
    │   ├── RedisUnavailable
    │   ├── MemoryFull
    │   └── Draining
    ├── AttemptFailed           an attempt, and perhaps its job, ended without success
    │   ├── ProviderTimeout
    │   ├── ProviderUnreachable
    │   ├── ProviderRefused
    │   │   └── ProviderUnable      without a request to it
    │   ├── ProviderTruncated
    │   ├── ProviderGarbage
    │   ├── FunctionFailed        the job's kind is a function, which raised an error
    │   ├── FunctionTimeout
    │   ├── RetryLater            raised by a function
    │   ├── PermanentFailure      raised by a function, with a code of its own
    │   ├── OutputTooLarge
    │   ├── TenantFull
    │   ├── CircuitOpen
    │   ├── Interrupted           its execution ended before the provider was through
    │   │   ├── WorkerLost
    │   │   ├── Drained
    │   │   └── LogBehind
    │   ├── PoisonJob
    │   ├── BrokenJob
    │   ├── ParentFailed          a job that it comes after did not complete
    │   ├── ParentGone            the answer of such a job is not stored any more
    │   ├── ParentsTooLarge       the answers of such jobs do not fit into its request
    │   ├── DeadlinePassed
    │   ├── Cancelled
    │   │   └── Abandoned
    │   └── InternalError
    ├── ClientError             the command line could not do its work
    │   ├── GatewayUnreachable    no answer, or none for too long
    │   ├── GatewayRefused        the gateway's own error
    │   ├── GatewayGarbage        the answer is not a Tailrace gateway's
    │   └── AnswerNotWhole        the answer is incomplete or was revoked
    ├── EventTooLarge           an event of a stream is larger than its reader takes
    └── StartupError            this process can't start; the sentence names the change that helps
"""

from shared.model.errors.attempt import (
    REFUSALS,
    Abandoned,
    AttemptFailed,
    BrokenJob,
    Cancelled,
    CircuitOpen,
    DeadlinePassed,
    Drained,
    FunctionFailed,
    FunctionTimeout,
    InternalError,
    Interrupted,
    LogBehind,
    OutputTooLarge,
    ParentFailed,
    ParentGone,
    ParentsTooLarge,
    PermanentFailure,
    PoisonJob,
    ProviderGarbage,
    ProviderRefused,
    ProviderTimeout,
    ProviderTruncated,
    ProviderUnable,
    ProviderUnreachable,
    RetryLater,
    TenantFull,
    WorkerLost,
)
from shared.model.errors.base import EventTooLarge, StartupError, TailraceError
from shared.model.errors.client import (
    AnswerNotWhole,
    ClientError,
    GatewayGarbage,
    GatewayRefused,
    GatewayUnreachable,
)
from shared.model.errors.problem import is_provider_fault, is_request_fault, needs_a_person, problem_of, status_of
from shared.model.errors.request import (
    BadCursor,
    BodyTooLarge,
    BoundReached,
    DeadLetterNotFound,
    Draining,
    Forbidden,
    IdempotencyConflict,
    InvalidRequest,
    JobNotFound,
    MemoryFull,
    MethodNotAllowed,
    MisdirectedRequest,
    ModelNotFound,
    NotFound,
    QueueFull,
    RedisUnavailable,
    RequestError,
    ResponseNotFound,
    TooManyBytes,
    TooManyLargeRequests,
    TooManyStreams,
    TooManyWaiting,
    Unauthenticated,
    Unavailable,
    WorkflowNotFound,
)

__all__ = [
    "REFUSALS",
    "Abandoned",
    "AnswerNotWhole",
    "AttemptFailed",
    "BadCursor",
    "BodyTooLarge",
    "BoundReached",
    "BrokenJob",
    "Cancelled",
    "CircuitOpen",
    "ClientError",
    "DeadLetterNotFound",
    "DeadlinePassed",
    "Drained",
    "Draining",
    "EventTooLarge",
    "Forbidden",
    "FunctionFailed",
    "FunctionTimeout",
    "GatewayGarbage",
    "GatewayRefused",
    "GatewayUnreachable",
    "IdempotencyConflict",
    "InternalError",
    "Interrupted",
    "InvalidRequest",
    "JobNotFound",
    "LogBehind",
    "MemoryFull",
    "MethodNotAllowed",
    "MisdirectedRequest",
    "ModelNotFound",
    "NotFound",
    "OutputTooLarge",
    "ParentFailed",
    "ParentGone",
    "ParentsTooLarge",
    "PermanentFailure",
    "PoisonJob",
    "ProviderGarbage",
    "ProviderRefused",
    "ProviderTimeout",
    "ProviderTruncated",
    "ProviderUnable",
    "ProviderUnreachable",
    "QueueFull",
    "RedisUnavailable",
    "RequestError",
    "ResponseNotFound",
    "RetryLater",
    "StartupError",
    "TailraceError",
    "TenantFull",
    "TooManyBytes",
    "TooManyLargeRequests",
    "TooManyStreams",
    "TooManyWaiting",
    "Unauthenticated",
    "Unavailable",
    "WorkerLost",
    "WorkflowNotFound",
    "is_provider_fault",
    "is_request_fault",
    "needs_a_person",
    "problem_of",
    "status_of",
]
