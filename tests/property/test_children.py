"""Compare jobs that come after others with a plain model: any graph, any ends, and processes that die at any step.

A process that dies leaves out a step, or all that follow; another one repeats them later. Until then nothing starts
that the model does not allow; afterwards every job has the status of the model, and its place in the queue.
"""

from dataclasses import dataclass

from hypothesis import Phase
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, initialize, invariant, rule

from shared.model.jobs import Job
from shared.model.lifecycle import TERMINAL, State
from shared.model.parents import OnParentFailure, ParentEnd, Parents, parent_end_of
from shared.store.wire.answers import Taken
from tests.support.core import RETENTION_S, Core, fresh_job_id, make_spec
from tests.support.server_steps import ServerSteps, run_steps

LANE = "default"
ENDS = [State.COMPLETED, State.FAILED, State.EXPIRED]


@dataclass
class Node:
    """A job of the model: its parents, and its end by a worker or its caller, if there is one."""

    parents: tuple[str, ...]
    policy: OnParentFailure
    end: State | None = None
    starts: int = 0


class ChildSteps(ServerSteps):
    """Submit jobs after others, end them, and carry out each step of their release apart."""

    jobs = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.nodes: dict[str, Node] = {}

    @initialize()
    def open(self) -> None:
        """Begin with nothing."""
        self.core: Core = self.open_core()

    # The model.

    def end_of(self, job_id: str) -> ParentEnd | None:
        """Return the end that a child sees once all steps are done; None before."""
        node = self.nodes.get(job_id)
        return ParentEnd.GONE if node is None else parent_end_of(self.status_of(job_id))

    def status_of(self, job_id: str) -> State:
        """Return the status that a job has once all steps are done."""
        node = self.nodes[job_id]
        if node.end is not None:
            return node.end
        ends = [self.end_of(each) for each in node.parents]
        if node.policy is OnParentFailure.FAIL and any(end not in (None, ParentEnd.COMPLETED) for end in ends):
            return State.FAILED
        if None in ends:
            return State.WAITING
        return State.RUNNING if node.starts else State.QUEUED

    # The steps.

    @rule(
        target=jobs, parents=st.lists(jobs, max_size=3), gone=st.integers(0, 9), policy=st.sampled_from(OnParentFailure)
    )
    def submit(self, parents: list[str], gone: int, policy: OnParentFailure) -> str:
        """Record a job; its process dies before it registers a job with parents."""
        chosen = tuple(dict.fromkeys([*parents, *([fresh_job_id()] if gone == 0 else [])]))
        named = Parents({f"p{number}": each for number, each in enumerate(chosen)}, policy) if chosen else None
        spec = make_spec(parents=named)
        self.run(self.core.queue_admission.admit(spec, max_depth=1000, retention_s=RETENTION_S))
        self.run(self.core.store.create(spec, 1))
        self.nodes[spec.id] = Node(chosen, policy)
        if named is None:
            self.run(self.core.queue_admission.release(spec.id, LANE))
        return spec.id

    @rule(job_id=jobs)
    def advance(self, job_id: str) -> None:
        """Let the submitting gateway, or the reaper, look after a job that waits."""
        job = self.run(self.core.job(job_id))
        if job.status is State.WAITING:
            self.run(self.core.waiting.advance(job))

    @rule(job_id=jobs)
    def register_only(self, job_id: str) -> None:
        """Let a process die after it has registered a child, and before it settles any parent."""
        job = self.run(self.core.job(job_id))
        if job.status is State.WAITING:
            self.run(self.core.children.register(job))

    @rule(job_id=jobs)
    def settle_only(self, job_id: str) -> None:
        """Let a worker die after it has settled the children of an ended job, and before it writes the queue."""
        end = parent_end_of(self.run(self.core.job(job_id)).status)
        children = self.run(self.core.children.listed(job_id, 100))
        if end is not None and children:
            self.run(self.core.children.settle(job_id, end, children))

    @rule(job_id=jobs)
    def complete(self, job_id: str) -> None:
        """Let a worker settle the children of an ended job."""
        end = parent_end_of(self.run(self.core.job(job_id)).status)
        if end is not None:
            self.run(self.core.waiting.settle_children(job_id, end))

    @rule()
    def start(self) -> None:
        """Let a worker take and begin the next job that is due."""
        answer = self.run(self.core.queue.take([LANE], fresh_job_id(), 10.0))
        if isinstance(answer, Taken) and self.run(self.core.job(answer.job_id)).status is State.QUEUED:
            self.run(self.core.begin(answer.job_id))
            self.nodes[answer.job_id].starts += 1

    @rule(job_id=jobs, status=st.sampled_from(ENDS))
    def end(self, job_id: str, status: State) -> None:
        """End a job that runs."""
        if self.run(self.core.job(job_id)).status is State.RUNNING:
            self.run(self.core.finish(self.run(self.core.take_over(job_id)), status))
            self.nodes[job_id].end = status

    @rule(job_id=jobs)
    def cancel(self, job_id: str) -> None:
        """Cancel a job that no worker has begun."""
        if self.run(self.core.job(job_id)).status in (State.WAITING, State.QUEUED):
            self.run(self.core.cancel(job_id))
            self.nodes[job_id].end = State.CANCELLED

    # The comparison.

    def loaded(self) -> list[Job]:
        found = self.run(self.core.store.load_many(list(self.nodes))) if self.nodes else []
        return [job for job in found if isinstance(job, Job)]

    @invariant()
    def nothing_starts_twice_or_before_its_parents(self) -> None:
        """Check each job against the model, which is ahead of it if a step was left out."""
        if not hasattr(self, "core"):
            return
        for job in self.loaded():
            expected = self.status_of(job.id)
            assert job.status in (expected, State.WAITING), job.id
            assert self.nodes[job.id].starts <= 1
            assert sum(story.endswith("started") for story in self.run(self.core.story(job.id))) <= 1

    def teardown(self) -> None:
        """Repeat what the reaper and the queue's entries repeat, until nothing changes; then all is as in the model."""
        try:
            if hasattr(self, "core"):
                self._look_after_all()
        finally:
            super().teardown()

    def _look_after_all(self) -> None:
        # Each round releases or ends the children of those that ended in the one before.
        for _ in self.nodes:
            for job in self.loaded():
                self.complete_one(job)
        for job in self.loaded():
            assert job.status is self.status_of(job.id), job.id
            in_lane = self.run(self.core.client.zscore(self.core.keys.lane(LANE), job.id)) is not None
            if job.status not in TERMINAL:
                assert in_lane is (job.status is not State.WAITING), job.id

    def complete_one(self, job: Job) -> None:
        """Do for one job what a worker's reaper does."""
        if job.status is State.WAITING:
            self.run(self.core.waiting.advance(job))
        elif (end := parent_end_of(job.status)) is not None:
            self.run(self.core.waiting.settle_children(job.id, end))
        else:
            self.run(self.core.queue.restore(job.place, 30.0))


def test_every_job_starts_once_its_parents_have_ended_and_at_most_once(redis_url: str) -> None:
    run_steps(ChildSteps, redis_url, examples=40, steps=40, phases=(Phase.generate,))
