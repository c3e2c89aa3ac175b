"""Format jobs and dead letters as tables for people. Pure: the time is an argument.

Not here: JSON lines, which scripts get instead.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from gateway.client.model.text import one_line

_HEADS = ("JOB", "STATUS", "MODEL", "AGE", "TOOK", "TOKENS")
_LETTER_HEADS = ("JOB", "CODE", "TENANT", "MODEL", "AGE", "TRIES", "REQUEUED AS")
_NAME_CHARS = 32
_UNITS = (("d", 86_400), ("h", 3600), ("min", 60))


def table(jobs: Sequence[Mapping[str, Any]], now: datetime) -> str:
    """Format one line for each job, as the gateway shows it, under a line of heads. The table ends with a line end."""
    return _lined_up([_HEADS, *(_cells(job, now) for job in jobs)])


def table_of_letters(letters: Sequence[Mapping[str, Any]], now: datetime) -> str:
    """Format dead letters; their age counts from their end. If one was requeued, a column names the new job."""
    rows = [_LETTER_HEADS, *(_letter_cells(letter, now) for letter in letters)]
    if not any(letter.get("requeued_as") for letter in letters):
        rows = [row[:-1] for row in rows]
    return _lined_up(rows)


def _lined_up(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _cells(job: Mapping[str, Any], now: datetime) -> tuple[str, ...]:
    created, started, ended = (_time(job.get(name)) for name in ("created_at", "started_at", "ended_at"))
    usage = job.get("usage")
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return (
        one_line(str(job.get("id"))),
        one_line(str(job.get("status"))),
        _name(job.get("model")),
        duration((now - created).total_seconds()) if created else "-",
        duration(((ended or now) - started).total_seconds()) if started else "-",
        str(tokens) if isinstance(tokens, int) else "-",
    )


def _letter_cells(letter: Mapping[str, Any], now: datetime) -> tuple[str, ...]:
    ended, error, tries = _time(letter.get("ended_at")), letter.get("error"), letter.get("attempts")
    return (
        one_line(str(letter.get("id"))),
        _name(error.get("code") if isinstance(error, dict) else None),
        _name(letter.get("tenant")),
        _name(letter.get("model")),
        duration((now - ended).total_seconds()) if ended else "-",
        str(len(tries)) if isinstance(tries, list) else "-",
        _name(letter.get("requeued_as")),
    )


def _name(name: object) -> str:
    text = "-" if name is None else one_line(str(name))
    return text if len(text) <= _NAME_CHARS else text[: _NAME_CHARS - 1] + "…"


def _time(text: object) -> datetime | None:
    try:
        time = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return time if time.tzinfo is not None else None


def duration(seconds: float) -> str:
    """Format a time in the largest unit that it has one whole of: `0.4 s`, `12 s`, `3 min`, `5 h`, `2 d`."""
    for name, unit in _UNITS:
        if seconds >= unit:
            return f"{int(seconds // unit)} {name}"
    return f"{max(seconds, 0):.1f} s" if seconds < 10 else f"{seconds:.0f} s"
