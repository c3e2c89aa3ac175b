"""What an upstream has generated, and how much of it a second time. Pure. Above: upstream.py."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Meter:
    """Counts tokens where they are written. `problems` are sentences about requests that should never have come."""

    generated: int = 0
    twice: int = 0
    """Those of `generated` that had been generated before, in another answer to the same question."""
    lapses: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    _reached: dict[str, int] = field(default_factory=dict)

    def count(self, question: str, number: int) -> None:
        """The answer's token of this number was written; an answer's numbers come in order."""
        self.generated += 1
        if number < self._reached.get(question, 0):
            self.twice += 1
        else:
            self._reached[question] = number + 1

    def as_dict(self) -> dict[str, Any]:
        """What `/meter` shows."""
        counted = {"generated": self.generated, "twice": self.twice}
        return {**counted, "lapses": dict(self.lapses), "problems": self.problems}
