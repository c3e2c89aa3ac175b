"""Rows that several scenarios have. Not here: the results table itself (results_table.py)."""

from tests.load.generator import Received
from tests.load.results_table import Budget, ResultsTable


def note_heard(results: ResultsTable, load: str, who: str, received: Received, gap: Budget | None = None) -> None:
    """Note gaps and tokens a second of a paced load."""
    results.spread(f"gap, {load}", who, received.gaps_s, {99: gap})
    results.note(f"tokens, {load}", "tokens/s", who, received.tokens / received.seconds)


def note_cpu(
    results: ResultsTable,
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
        results.note(f"{label}: all", unit, who, per_s * sum(spent_s.values()) / count, budget)
        for part, seconds in spent_s.items():
            results.note(f"{label}: {part}", unit, who, per_s * seconds / count)
