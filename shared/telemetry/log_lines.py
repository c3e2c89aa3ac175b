"""Make the line of an event: its time, level and name, the ids of the current work, and its own fields.

As JSON, or for a terminal. Not here: the removal of secrets (shared/model/redaction.py), and the writing of lines
(log_stream.py).
"""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import structlog
from structlog.typing import EventDict

from shared.model.redaction import redact_fields
from shared.model.text import escaped, escaped_lines, whole

LineMaker = Callable[[str, EventDict], bytes]
"""Makes the line of an event at a level."""

# A traceback has lines of its own; any other text could begin a line that looks like an event.
_TRACEBACK = "exception"


def json_line(level: str, event: EventDict) -> bytes:
    """Write an event as a line of JSON."""
    time = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    # Plain json.dumps: half of a surrogate pair would be an escape that strict readers of JSON refuse.
    fields = redact_fields(_with_ids(event), whole)
    return json.dumps({"time": time, "level": level, **fields}).encode() + b"\n"


def console_lines(colors: bool) -> LineMaker:
    """Return the function that writes an event for a terminal."""
    console = structlog.dev.ConsoleRenderer(
        colors=colors, exception_formatter=structlog.dev.plain_traceback, timestamp_key="time"
    )

    def console_line(level: str, event: EventDict) -> bytes:
        fields = _with_ids(event)
        # Unprintable characters of addresses and upstreams' texts must not control an operator's terminal.
        traceback = {_TRACEBACK: fields.pop(_TRACEBACK)} if _TRACEBACK in fields else {}
        shown = redact_fields(fields, escaped) | redact_fields(traceback, escaped_lines)
        time = datetime.now().astimezone().strftime("%H:%M:%S")
        return str(console(None, level, {**shown, "time": time, "level": level})).encode() + b"\n"

    return console_line


def _with_ids(event: Mapping[str, Any]) -> EventDict:
    """Return an event with the ids that the current work has bound, and its traceback as text.

    As text, here: a traceback formatted for a terminal shows local variables, such as prompts and keys.
    """
    fields: EventDict = {"event": event.get("event", ""), **structlog.contextvars.get_contextvars(), **event}
    if "exc_info" in fields:
        fields = structlog.processors.format_exc_info(None, "", fields)
    return fields
