"""The results table of a run: values by row and column, medians of rounds, budgets, a table and JSON.

Pure. Not here: measuring (scenarios.py), and printing (bench.py).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

OURS = ("chat", "native", "responses", "ui", "tailrace")
"""The columns of our side: a dialect, or, without one, Tailrace as it is."""
_HEAD = ("", "direct", "through", "peer", "ratio", "budget", "")


@dataclass(frozen=True)
class Budget:
    """The bound that design.md sets. `of`: only this dialect has promised it."""

    kind: Literal["at most", "at least", "direct +", "direct ×"]
    value: float
    of: str | None = None

    def met(self, through: float, direct: float | None) -> bool:
        """Return whether the value is within the budget."""
        if self.kind == "at least":
            return through >= self.value
        if self.kind == "direct ×":
            return through <= self.value * (direct or 0.0)
        return through <= self.value + ((direct or 0.0) if self.kind == "direct +" else 0.0)

    def __str__(self) -> str:
        sign = {"at most": "≤ ", "at least": "≥ ", "direct +": "≤ direct + ", "direct ×": "≤ direct × "}[self.kind]
        return f"{sign}{self.value:,.10g}"


@dataclass
class Row:
    """One thing that is measured; `values` has each round's value by column."""

    label: str
    unit: str
    budget: Budget | None
    values: dict[str, list[float]] = field(default_factory=dict)

    def value(self, column: str) -> float | None:
        """Return the median over the rounds."""
        return median(self.values[column]) if column in self.values else None


@dataclass(frozen=True)
class Line:
    """A row, as one of our dialects does it."""

    name: str
    unit: str
    direct: float | None
    through: float
    peer: float | None
    budget: Budget | None

    @property
    def ratio(self) -> float | None:
        """Through over direct."""
        return self.through / self.direct if self.direct else None

    @property
    def met(self) -> bool | None:
        """Return whether the budget is met; None without a budget."""
        return self.budget.met(self.through, self.direct) if self.budget else None


@dataclass
class ResultsTable:
    """All rows of a run, in the order in which they came, and the faults."""

    rows: dict[str, Row] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def note(self, label: str, unit: str, column: str, value: float, budget: Budget | None = None) -> None:
        """One round's value."""
        row = self.rows.setdefault(label, Row(label, unit, budget))
        row.values.setdefault(column, []).append(value)

    def spread(
        self, label: str, column: str, seconds: Sequence[float], budgets: dict[int, Budget | None] | None = None
    ) -> None:
        """The 50th and 99th percentile of many times, in milliseconds. `budgets` by percentile."""
        for percent in (50, 99):
            if seconds:
                value = 1000 * percentile(seconds, percent)
                self.note(f"{label} p{percent}", "ms", column, value, (budgets or {}).get(percent))

    def lines(self) -> Iterator[Line]:
        """Return the contents of the table."""
        for row in self.rows.values():
            for who in OURS:
                through = row.value(who)
                if through is not None:
                    budget = row.budget if row.budget and row.budget.of in (None, who) else None
                    name = row.label if who == "tailrace" else f"{row.label}, {who}"
                    peer = row.value("peer") if who == "chat" else None
                    yield Line(name, row.unit, row.value("direct"), through, peer, budget)

    def table(self) -> str:
        """Return the lines for a terminal."""
        cells = [_HEAD, *(_cells(line) for line in self.lines())]
        widths = [max(len(row[column]) for row in cells) for column in range(len(_HEAD))]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if column in (0, 5, 6) else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in cells
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the results for machines: medians, ratios and verdicts, and each round's values."""
        lines = [
            {
                "name": line.name,
                "unit": line.unit,
                "direct": line.direct,
                "through": line.through,
                "peer": line.peer,
                "ratio": line.ratio,
                "budget": str(line.budget) if line.budget else None,
                "met": line.met,
            }
            for line in self.lines()
        ]
        rounds = {row.label: row.values for row in self.rows.values()}
        return {"lines": lines, "rounds": rounds, "faults": self.faults}


def _cells(line: Line) -> tuple[str, ...]:
    verdict = {True: "met", False: "MISSED", None: ""}[line.met]
    numbers = (_shown(line.direct), _shown(line.through), _shown(line.peer))
    ratio = "" if line.ratio is None else f"×{line.ratio:.2f}"
    return (f"{line.name} [{line.unit}]", *numbers, ratio, str(line.budget or ""), verdict)


def _shown(value: float | None) -> str:
    if value is None:
        return ""
    return (
        f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) >= 0.01 or not value else f"{value:.1g}"
    )


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the smallest value that is not below `percent` percent of them (nearest rank)."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]
