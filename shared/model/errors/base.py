"""The root of all errors, and the errors that end a process or a reader.

Not here: errors of requests, attempts and the command line (the modules beside this one).
"""

from typing import ClassVar


class TailraceError(Exception):
    """The root. `str(error)` is a sentence for the person that has to act on it."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False


class EventTooLarge(TailraceError):
    """An event of a stream is larger than its reader accepts."""

    code = "event_too_large"


class StartupError(TailraceError):
    """This process refuses to start."""

    code = "startup_failed"
