"""Compare a tenant's counted bytes with those on the server: any steps at any jobs, in any order.

The sum is always the bytes that its jobs keep: the exact bytes of ended jobs, the next whole step of the others.
Jobs that vanish count until they are swept, which the next job does. No tenant passes its bound by a new job.
"""

from hypothesis import Phase
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, initialize, invariant, rule

from shared.model.errors import TooManyBytes
from shared.model.lifecycle import State
from shared.model.tenant_bounds import TenantBounds
from shared.store.executions import Execution
from shared.store.wire.answers import ForgetAnswer, Written
from tests.contract.test_kept_bytes import JOB, STEP, counted, expire, kept
from tests.support.core import Core, frames_of, make_spec
from tests.support.server_steps import ServerSteps, run_steps

BOUNDS = TenantBounds(bytes=20 * STEP)
NONE = ""


class ByteSteps(ServerSteps):
    """Run one tenant's jobs, and every step that adds to them and ends them."""

    jobs = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.waiting: set[str] = set()
        self.running: dict[str, tuple[Execution, int]] = {}
        self.ended: set[str] = set()
        self.uncompleted: set[str] = set()
        self.vanished: set[str] = set()

    @initialize()
    def open(self) -> None:
        """Begin with nothing."""
        self.core: Core = self.open_core()

    @rule(target=jobs, size=st.integers(2, 5 * STEP), brief=st.booleans())
    def create(self, size: int, brief: bool) -> str:
        """Create a new job, if there is room. It sweeps the jobs that have vanished."""
        spec = make_spec(request=b"{}".ljust(size), brief=b"{}" if brief else b"")
        self.vanished.clear()
        full = self.run(self.counted_whole()) + _steps(JOB + size + 150) > 18 * STEP
        try:
            self.run(self.core.store.create(spec, 1, bounds=BOUNDS))
        except TooManyBytes:
            assert full
            return NONE
        self.waiting.add(spec.id)
        assert self.run(counted(self.core)) <= 18 * STEP
        return spec.id

    async def counted_whole(self) -> int:
        """Return the bytes of the jobs that are there, as they count."""
        total = 0
        for job_id in self.waiting | set(self.running):
            total += _steps(JOB + await self.size_of(job_id))
        for job_id in self.ended:
            total += JOB + await self.size_of(job_id)
        return total

    async def size_of(self, job_id: str) -> int:
        """Return the bytes that a job keeps, its brief included."""
        brief = await self.core.client.hget(self.core.keys.job(job_id).record, "brief")  # type: ignore[misc]
        return await kept(self.core, job_id) + len(brief or b"")

    @rule(job_id=jobs)
    def begin(self, job_id: str) -> None:
        """Begin the job in a worker."""
        if job_id in self.waiting:
            execution = self.run(self.core.begin(job_id))
            self.waiting.discard(job_id)
            self.running[job_id] = execution, execution.seq

    @rule(job_id=jobs, size=st.integers(1, 3 * STEP))
    def append(self, job_id: str, size: int) -> None:
        """Append a delta of the provider; the same call may be repeated."""
        if job_id in self.running:
            execution, seq = self.running[job_id]
            entry = frames_of(execution, seq + 1, "x" * size)
            first, again = [self.run(self.core.append(entry))[0] for _ in range(2)]
            assert isinstance(first, Written) and not first.repeated
            assert again == Written(repeated=True)
            self.running[job_id] = execution, seq + 1

    @rule(job_id=jobs, status=st.sampled_from([State.COMPLETED, State.FAILED, State.EXPIRED]))
    def finish(self, job_id: str, status: State) -> None:
        """End the job."""
        if job_id in self.running:
            execution, seq = self.running.pop(job_id)
            assert self.run(self.core.finish(execution, status, seq=seq + 1)) == Written()
            self.ended.add(job_id)

    @rule(job_id=jobs)
    def cancel(self, job_id: str) -> None:
        """Cancel a waiting job, as its caller."""
        if job_id in self.waiting:
            assert self.run(self.core.cancel(job_id)) == "cancelled"
            self.waiting.discard(job_id)
            self.ended.add(job_id)
            self.uncompleted.add(job_id)

    @rule(job_id=jobs)
    def forget(self, job_id: str) -> None:
        """Delete an ended job, as its caller."""
        if job_id in self.ended:
            # A job that ended without a worker is stored until its completion steps have run.
            answer = ForgetAnswer.HIDDEN if job_id in self.uncompleted else ForgetAnswer.DELETED
            assert self.run(self.core.store.forget(job_id)) is answer
            if answer is ForgetAnswer.DELETED:
                self.ended.discard(job_id)

    @rule(job_id=jobs)
    def vanish(self, job_id: str) -> None:
        """Let an ended job expire."""
        if job_id in self.ended:
            self.run(expire(self.core, job_id))
            self.ended.discard(job_id)
            self.vanished.add(job_id)

    @invariant()
    def the_sum_is_what_is_kept(self) -> None:
        """Check the sum: between two sweeps, jobs that have vanished still count."""
        if not hasattr(self, "core"):
            return
        total, there = self.run(counted(self.core)), self.run(self.counted_whole())
        assert total == there if not self.vanished else total > there


def _steps(size: int) -> int:
    return (size // STEP + 1) * STEP


def test_a_tenants_sum_equals_the_bytes_of_its_jobs_after_any_steps(redis_url: str) -> None:
    run_steps(ByteSteps, redis_url, examples=25, phases=(Phase.generate,))
