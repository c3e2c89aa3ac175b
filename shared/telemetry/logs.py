"""Write the log: events with names and fields, as JSON or for a terminal, on stderr.

The composition roots call `configure_logs` once; every other module gets a logger from structlog and binds the ids of
its current work with `structlog.contextvars`. Records that libraries send to `logging` are written the same way. Not
here: the choice of events.
"""

import logging
import re
import sys
from collections.abc import Iterable

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor, WrappedLogger

from shared.config.environment import Note
from shared.model.text import each_text, escaped, escaped_lines, whole

# A second line of defence: no module should log these in the first place.
_SECRETS = (
    (re.compile(r"([?&#](?:token|key)=)[^&\s\"'\\]+"), r"\1***"),
    (re.compile(r"(\bbearer\s+)[^\s\"',\\]+", re.IGNORECASE), r"\1***"),
    (re.compile(r"\bsk-[\w-]{4,}"), "sk-***"),
    (re.compile(r"(://[^/\s:@]*:)[^/\s@]+@"), r"\1***@"),
)

# Tracebacks have lines of their own; any other text could begin a line that looks like an event.
_OF_LINES = ("exception", "stack")
# These log every request, and at level debug its body.
_CHATTY = ("uvicorn", "arq", "openai", "httpx2", "httpcore2", "asyncio")
# A reader is disconnected by breaking its stream in mid-body, which uvicorn reports as a fault of the application.
_INTENDED = "ASGI callable returned without completing response"


def configure_logs(level: str, log_format: str) -> None:
    """Send every log record of this process to stderr, as `settings.log_level` and `settings.log_format` say.

    May be called again: the last call counts.
    """
    for_terminal = wants_console(log_format)
    tidy: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if for_terminal else "iso", utc=not for_terminal, key="time"),
        # As text, here: a traceback formatted for a terminal shows local variables, such as prompts and keys.
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *tidy, ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _RedactingFormatter(
            foreign_pre_chain=tidy,
            processors=[ProcessorFormatter.remove_processors_meta, *_renderers(for_terminal)],
        )
    )
    handler.addFilter(_is_no_intended_break)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    # Its lines would hold the tokens of event links.
    logging.getLogger("uvicorn.access").disabled = True


def wants_console(log_format: str) -> bool:
    """Return whether this format, in this process, is the one for people."""
    return log_format == "console" or (log_format == "auto" and sys.stderr.isatty())


def redact(line: str) -> str:
    """Remove event link tokens, API keys, bearer keys and the passwords of URLs from a line."""
    for secret, replacement in _SECRETS:
        line = secret.sub(replacement, line)
    return line


class _RedactingFormatter(ProcessorFormatter):
    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def _renderers(for_terminal: bool) -> list[Processor]:
    if not for_terminal:
        # Plain json.dumps; half of a surrogate pair would be an escape that strict readers of JSON refuse.
        return [_mend, structlog.processors.JSONRenderer()]
    console = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback, timestamp_key="time"
    )
    return [_escape, console]


def _escape(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Escape unprintable characters: addresses and upstreams' texts must not control an operator's terminal."""
    return {
        escaped(str(name)): each_text(value, escaped_lines if name in _OF_LINES else escaped)
        for name, value in event.items()
    }


def _mend(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Replace halves of surrogate pairs."""
    return {whole(str(name)): each_text(value, whole) for name, value in event.items()}


def _is_no_intended_break(record: logging.LogRecord) -> bool:
    return not (record.name == "uvicorn.error" and _INTENDED in record.getMessage())


def log_notes(notes: Iterable[Note]) -> None:
    """Log the variables that look like settings and are not read."""
    log = structlog.get_logger()
    for note in notes:
        log.warning(note.trouble.value, variable=note.variable, reason=note.sentence)
