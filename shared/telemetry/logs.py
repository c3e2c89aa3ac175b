"""The log: events with names and fields, as JSON or for a terminal, on stderr.

Above: the composition roots, which call `configure_logs` once; everybody else asks structlog for a logger and
binds the ids of what it works on with `structlog.contextvars`. What libraries say through `logging` comes out
the same way. Not here: deciding what is worth an event.
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

# A second line of defence: nobody should have logged these in the first place.
_SECRETS = (
    (re.compile(r"([?&#](?:token|key)=)[^&\s\"'\\]+"), r"\1***"),
    (re.compile(r"(\bbearer\s+)[^\s\"',\\]+", re.IGNORECASE), r"\1***"),
    (re.compile(r"\bsk-[\w-]{4,}"), "sk-***"),
    (re.compile(r"(://[^/\s:@]*:)[^/\s@]+@"), r"\1***@"),
)

# Tracebacks have lines of their own; any other text could begin a line that looks like an event.
_OF_LINES = ("exception", "stack")
# They tell every request, and at level debug its body.
_CHATTY = ("uvicorn", "arq", "openai", "httpx2", "httpcore2", "asyncio")
# Breaking a stream in mid-body is how a reader is let go; for uvicorn it is a mistake of ours.
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
        # As text, here: a traceback made for a terminal shows local variables, prompts and keys among them.
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
    """Whether this format, in this process, is the one for people."""
    return log_format == "console" or (log_format == "auto" and sys.stderr.isatty())


def redact(line: str) -> str:
    """A line without event link tokens, API keys, bearer keys and the passwords of URLs."""
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
    """Escape what is not printable: addresses and upstreams' words must not control an operator's terminal."""
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
