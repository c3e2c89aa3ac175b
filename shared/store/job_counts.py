"""Count the jobs that this process creates, begins and ends.

Not here: the metrics' names (shared/model/metrics.py).
"""

import json

from shared.model.jobs import code_in
from shared.model.lifecycle import State
from shared.model.metrics import Metrics


class JobCounts:
    """The counters of one process."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._executions, self._rollbacks = metrics.executions.of(), metrics.rollbacks.of()

    def created(self, lane: str) -> None:
        """Count a new job."""
        self._metrics.submitted.of(lane).add()

    def refused_for_bytes(self) -> None:
        """Count a job of a tenant that keeps too many bytes."""
        self._metrics.refused.of("bytes").add()

    def begun(self, *, rolled_back: bool) -> None:
        """Count an execution, and whether it rolled back an earlier one."""
        self._executions.add()
        self._rollbacks.add(rolled_back)

    def ended(self, status: State, outcome: bytes) -> None:
        """Count an end with its error code and its tokens."""
        end = json.loads(outcome)
        self._metrics.ended.of(status.value, code_in(end)).add()
        usage = end.get("usage") or {}
        for kind in ("prompt", "completion"):
            self._metrics.tokens.of(kind).add(usage.get(f"{kind}_tokens", 0))
        self._metrics.tokens_saved.of().add(end.get("tokens_saved", 0))
