"""The jobs that this process runs now, by their ids.

Not here: the run of one job (job_run.py), the choice of the next job and the leases (worker/dispatch).
"""

import structlog

from shared.model.ended_job import EndedJob
from shared.model.errors import InternalError
from shared.store.client import REDIS_FAULTS
from shared.store.queue import Claim
from shared.store.retrying import retry_until_redis_answers
from shared.store.wire.answers import StopReason, StoredJob
from worker.execution.completion import CompletionSteps
from worker.execution.disposition import Disposition, Outcome, disposition
from worker.execution.executions import RunningExecution
from worker.execution.job_run import JobRun
from worker.execution.reported import ReportedJobs
from worker.execution.run_services import RunServices

log = structlog.get_logger()

# A job that can be neither run nor ended here may be taken by any worker after so long.
_NOT_ENDED_S = 30.0


class Runs:
    """All jobs of this process, from their claims on."""

    def __init__(self, services: RunServices, completion_steps: CompletionSteps) -> None:
        self._services = services
        self._completion_steps = completion_steps
        self._reported = ReportedJobs()
        self._runs: dict[str, JobRun] = {}
        self._draining = False

    async def run(self, claim: Claim, stored: StoredJob | None = None) -> float | None:
        """Run a claimed job to its end, or until this process loses it. `stored` is the job as it was taken.

        Return the seconds after which any worker may take it. None: it has ended, or another worker runs it.
        """
        run = JobRun(claim, self._services, stored, draining=self._draining)
        self._runs[claim.job_id] = run
        try:
            outcome = await run.run()
        except Exception:  # the top of the job's task: a defect must not leave the job without an end
            if self._reported.is_new(claim.job_id):
                log.exception("attempt.crashed")
            outcome = await self._end_after_defect(claim)
        finally:
            if self._runs.get(claim.job_id) is run:
                del self._runs[claim.job_id]
        if outcome is Disposition.UNKNOWN:
            log.info("attempt.no_record")
        if isinstance(outcome, int | float):
            return outcome
        if outcome is not Disposition.ELSEWHERE:
            ended = outcome if isinstance(outcome, EndedJob) else None
            await retry_until_redis_answers(lambda: self._completion_steps.run(claim.job_id, claim.lane, ended))
        return None

    def execution(self, job_id: str) -> RunningExecution | None:
        """Return the execution of a job that runs now."""
        run = self._runs.get(job_id)
        return None if run is None else run.switch.execution

    def executions(self) -> list[RunningExecution]:
        """Return all executions that run now."""
        switches = [run.switch for run in self._runs.values()]
        return [switch.execution for switch in switches if switch.execution is not None]

    def stop(self, job_id: str, reason: StopReason) -> None:
        """Stop a job if it runs here or is about to; see `StopSwitch.stop`."""
        if (run := self._runs.get(job_id)) is not None:
            run.switch.stop(reason)

    def drain(self) -> None:
        """Hand back all jobs, those that are about to run included."""
        self._draining = True
        for run in list(self._runs.values()):
            run.switch.drain()

    async def _end_after_defect(self, claim: Claim) -> Outcome:
        defect = InternalError("Internal error; see the server log.")
        try:
            return disposition(await self._services.ender.end(claim.job_id, claim.owner, defect))
        except REDIS_FAULTS as error:
            # Redis refuses a step for this job alone. Another version may be able to carry it out.
            log.debug("attempt.not_ended", error=str(error))
            return _NOT_ENDED_S
