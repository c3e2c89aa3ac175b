"""Write the log: events with names and fields, as JSON or for a terminal, on stderr.

The composition roots call `configure_logs` once; every other module gets a logger from structlog and binds the ids of
its current work with `structlog.contextvars`. Records that libraries send to `logging` are written the same way. Not
here: the choice of events, the form of a line (log_lines.py), and the writing (log_stream.py).
"""

import logging
import sys
from collections.abc import Iterable

import structlog
from structlog.typing import EventDict, WrappedLogger

from shared.config.environment import Note
from shared.telemetry.log_lines import LineMaker, console_lines, json_line
from shared.telemetry.log_stream import LogStream

_STDERR = 2

# These log every request, and at level debug its body.
_CHATTY = ("uvicorn", "arq", "openai", "httpx2", "httpcore2", "asyncio")
# A reader is disconnected by breaking its stream in mid-body, which uvicorn reports as a fault of the application.
_INTENDED = "ASGI callable returned without completing response"


class _Lines:
    """Writes the lines of this process's own events. structlog calls the method that is named like the level."""

    def __init__(self, stream: LogStream) -> None:
        self.debug = self.info = self.warning = stream.write
        self.error = self.critical = stream.write_now


class _LibraryHandler(logging.Handler):
    """Writes the records of libraries as this process's own events are written."""

    def __init__(self, stream: LogStream, line: LineMaker) -> None:
        super().__init__()
        self._stream = stream
        self._line = line

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        event: EventDict = {"event": _message(record), "logger": record.name}
        if record.exc_info:
            event["exc_info"] = record.exc_info
        write = self._stream.write_now if record.levelno >= logging.ERROR else self._stream.write
        write(self._line(record.levelname.lower(), event))

    def close(self) -> None:
        """Write the waiting lines, and end the stream; `logging` calls this at the process's end."""
        self._stream.close()
        super().close()


def configure_logs(level: str, log_format: str) -> LogStream:
    """Send every log record of this process to stderr, as `settings.log_level` and `settings.log_format` say.

    May be called again: the last call counts. Lines that still wait when the process ends are written then.
    """
    line = console_lines(sys.stderr.isatty()) if wants_console(log_format) else json_line
    root = logging.getLogger()
    for former in root.handlers:
        if isinstance(former, _LibraryHandler):
            former.close()
    stream = LogStream(_STDERR, lambda lines: line("warning", {"event": "log.dropped", "lines": lines}))

    def render(_: WrappedLogger, level: str, event: EventDict) -> bytes:
        return line(level, event)

    lines = _Lines(stream)
    threshold = getattr(logging, level.upper())
    structlog.configure(
        processors=[render],
        logger_factory=lambda *_: lines,
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        cache_logger_on_first_use=False,
    )
    handler = _LibraryHandler(stream, line)
    handler.addFilter(_is_no_intended_break)
    root.handlers[:] = [handler]
    root.setLevel(threshold)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, threshold))
    # Its lines would hold the tokens of event links.
    logging.getLogger("uvicorn.access").disabled = True
    return stream


def wants_console(log_format: str) -> bool:
    """Return whether this format, in this process, is the one for people."""
    return log_format == "console" or (log_format == "auto" and sys.stderr.isatty())


def _message(record: logging.LogRecord) -> str:
    """Return a record's message; if its arguments do not fit, the message without them."""
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):
        return str(record.msg)


def _is_no_intended_break(record: logging.LogRecord) -> bool:
    return not (record.name == "uvicorn.error" and _INTENDED in _message(record))


def log_notes(notes: Iterable[Note]) -> None:
    """Log the variables that look like settings and are not read."""
    log = structlog.get_logger()
    for note in notes:
        log.warning(note.trouble.value, variable=note.variable, reason=note.sentence)
