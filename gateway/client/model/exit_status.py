"""Map the outcome of a command to the client's exit status, for scripts. Pure.

The help of gateway/client/arguments.py prints the table, and a test compares it with the README.
"""

from collections.abc import Mapping
from enum import IntEnum

from shared.model.errors import (
    AnswerNotWhole,
    ClientError,
    GatewayRefused,
    RequestError,
    StartupError,
    TailraceError,
)
from shared.model.events import EventType


class ExitStatus(IntEnum):
    """The statuses; those over 128 are the shell's values for SIGINT and SIGPIPE."""

    COMPLETE = 0
    FAILED = 1
    USAGE = 2
    CANCELLED = 3
    REFUSED = 4
    UNREACHED = 5
    INTERRUPTED = 130
    BROKEN_PIPE = 141


MEANINGS: Mapping[ExitStatus, str] = {
    ExitStatus.COMPLETE: "complete",
    ExitStatus.FAILED: "the job failed or could not be requeued, or its answer did not come whole or was filtered",
    ExitStatus.USAGE: "a mistake in the command line, the settings or the request",
    ExitStatus.CANCELLED: "the job was cancelled, or its time was up",
    ExitStatus.REFUSED: "not found, or not allowed",
    ExitStatus.UNREACHED: "the gateway could not be reached",
    ExitStatus.INTERRUPTED: "Ctrl-C; the job continues",
    ExitStatus.BROKEN_PIPE: "the output was closed by its reader; the job continues",
}

_ENDS: Mapping[str, ExitStatus] = {
    EventType.COMPLETED: ExitStatus.COMPLETE,
    EventType.FAILED: ExitStatus.FAILED,
    EventType.CANCELLED: ExitStatus.CANCELLED,
    EventType.EXPIRED: ExitStatus.CANCELLED,
}
# An answer that reached its token limit is as long as requested.
_WHOLE = ("stop", "tool_calls", "length", None)
_NOT_FOR_YOU = (401, 403, 404)


def of_end(end: str, finish_reason: object = None) -> ExitStatus:
    """Return the status for a job's terminal event or terminal state, which have the same names.

    A finish reason that does not say that the answer is whole is not a success: `content_filter`, or an unknown word.
    """
    if end == EventType.COMPLETED and finish_reason not in _WHOLE:
        return ExitStatus.FAILED
    return _ENDS.get(end, ExitStatus.FAILED)


def of_error(error: TailraceError) -> ExitStatus:
    """Return the status for a command that failed with this error."""
    if isinstance(error, GatewayRefused):
        if error.http_status in _NOT_FOR_YOU:
            return ExitStatus.REFUSED
        return ExitStatus.USAGE if 400 <= error.http_status <= 499 else ExitStatus.UNREACHED
    if isinstance(error, RequestError | StartupError):
        return ExitStatus.USAGE
    if isinstance(error, ClientError) and not isinstance(error, AnswerNotWhole):
        return ExitStatus.UNREACHED
    return ExitStatus.FAILED
