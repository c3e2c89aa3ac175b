"""Test the log line of a submitted job: there is one for the call that wrote the record, and none for another one."""

from typing import Any, cast

import pytest

from gateway.admission.intake import Intake
from shared.model.jobs import Job
from shared.model.tenant_bounds import UNBOUNDED
from shared.store.jobs import Created, JobRecords
from shared.store.queue import Queue
from shared.store.queue_admission import Admitted, QueueAdmission
from shared.store.waiting_jobs import WaitingJobs
from tests.support.core import captured_logs, make_spec

JOB = cast(Job, object())


class Records:
    """Writes a record, or finds the one that another call has written meanwhile."""

    def __init__(self, *, new: bool) -> None:
        self._new = new
        self.request_ids: list[str] = []

    async def create(self, spec: Any, position: int, *, request_id: str, **_: Any) -> Created:
        self.request_ids.append(request_id)
        return Created(JOB, self._new)


class Lane:
    """Admits each job, and releases it."""

    async def admit(self, spec: Any, **_: Any) -> Admitted:
        return Admitted(spec.id, existing=False, position=1)

    async def release(self, job_id: str, lane: str) -> bool:
        return True


@pytest.mark.parametrize("new", [True, False])
async def test_the_job_is_logged_only_by_the_call_that_wrote_its_record(new: bool) -> None:
    records, spec = Records(new=new), make_spec(lane="low")
    intake = Intake(
        cast(JobRecords, records),
        cast(Queue, None),
        cast(QueueAdmission, Lane()),
        cast(WaitingJobs, None),
        max_depth=1,
        retention_s=1,
        listed_s=1,
        bounds=UNBOUNDED,
    )

    with captured_logs() as logs:
        assert await intake.submit(spec, "req_1") is JOB

    about = {"job": spec.id, "tenant": "alice", "lane": "low", "kind": "chat", "model": "a-model"}
    assert logs.named("job.submitted") == [{"event": "job.submitted", **about}] * new
    assert records.request_ids == ["req_1"]
