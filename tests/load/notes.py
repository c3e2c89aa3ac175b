"""Rows that several scenarios have. Not here: the sheet itself (sheet.py)."""

from tests.load.generator import Heard
from tests.load.sheet import Budget, Sheet


def note_heard(sheet: Sheet, load: str, who: str, heard: Heard, gap: Budget | None = None) -> None:
    """Note gaps and tokens a second of a paced load."""
    sheet.spread(f"gap, {load}", who, heard.gaps_s, {99: gap})
    sheet.note(f"tokens, {load}", "tokens/s", who, heard.tokens / heard.seconds)


def note_cpu(
    sheet: Sheet,
    label: str,
    who: str,
    spent_s: dict[str, float],
    count: int,
    per_s: float,
    unit: str,
    most: float | None,
) -> None:
    """Note the CPU time of all parts, and of each, for one of `count` tokens or jobs, in so many units a second."""
    if who in ("chat", "native") and count:
        budget = None if most is None else Budget("at most", most)
        sheet.note(f"{label}: all", unit, who, per_s * sum(spent_s.values()) / count, budget)
        for part, seconds in spent_s.items():
            sheet.note(f"{label}: {part}", unit, who, per_s * seconds / count)
