"""A meter of the tokens that an upstream has generated, and of those generated a second time. Pure."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Meter:
    """Count tokens as they are written. `problems` are sentences about requests that should never have come."""

    generated: int = 0
    twice_at: Counter[float] = field(default_factory=Counter)
    """When a call began -> those of its tokens that had been generated before, in another answer to its question."""
    planned_faults: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    _reached: dict[str, int] = field(default_factory=dict)

    @property
    def twice(self) -> int:
        """Those of `generated` that had been generated before."""
        return self.twice_at.total()

    def count(self, question: str, number: int, began: float) -> None:
        """A call that `began` then has written the answer's token of this number; its numbers come in order."""
        self.generated += 1
        if number < self._reached.get(question, 0):
            self.twice_at[began] += 1
        else:
            self._reached[question] = number + 1

    def as_dict(self) -> dict[str, Any]:
        """Return the contents of `/meter`."""
        counted = {"generated": self.generated, "twice_at": list(self.twice_at.items())}
        return {**counted, "planned_faults": dict(self.planned_faults), "problems": self.problems}
