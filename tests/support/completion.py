"""Completion steps for tests: a step that records its runs, and the steps of a worker on a test's own keys.

Not here: workers (system.py), and a worker process with such a step (completion_worker.py).
"""

from collections.abc import Sequence

from shared.model.ended_job import EndedJob
from shared.model.metrics import Metrics
from shared.store.completions import Completions
from tests.support.core import Core, Watched
from worker.execution.completion import CompletionStep, CompletionSteps
from worker.execution.steps import AddDeadLetter, RemoveQueueEntry

CLAIM_S = 10.0


class RecordedStep:
    """A step that records the jobs for which it ran; it fails as long as `failures` are left."""

    def __init__(self, name: str = "recorded", *, repeatable: bool = False, failures: Sequence[Exception] = ()) -> None:
        self.name = name
        self.repeatable = repeatable
        self.jobs: list[EndedJob] = []
        self._failures = list(failures)
        self._changed = Watched()

    async def run(self, job: EndedJob) -> None:
        """Record the job, then fail if it has to."""
        self.jobs.append(job)
        self._changed.change()
        if self._failures:
            raise self._failures.pop(0)

    async def ran(self, times: int = 1) -> EndedJob:
        """Wait until it has run so many times; return the last job."""
        await self._changed.until(lambda: len(self.jobs) >= times)
        return self.jobs[-1]


def completions_of(core: Core, lease_s: float = CLAIM_S) -> Completions:
    """Return the claims of another process."""
    return Completions(core.client, core.keys, lease_s)


def completion_steps_of(
    core: Core, *steps: CompletionStep, metrics: Metrics | None = None, lease_s: float = CLAIM_S
) -> CompletionSteps:
    """Return the steps of another worker process, with these steps beside its own."""
    every = (AddDeadLetter(core.dead_letters, metrics or Metrics()), *steps, RemoveQueueEntry(core.queue))
    return CompletionSteps(every, completions_of(core, lease_s), core.queue, core.store)
