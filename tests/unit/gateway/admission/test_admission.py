"""Test the ids of admission. Its calls of Redis are tested in tests/interaction."""

from typing import cast

from gateway.admission.admission import Admission
from gateway.specs.limits import Limits
from shared.model.jobs import created_ms, is_job_id
from shared.store.client import open_client
from shared.store.jobs import JobRecords
from shared.store.keys import Keys
from shared.store.queue import Queue
from shared.store.queue_admission import QueueAdmission
from shared.store.waiting_jobs import WaitingJobs

NOW_MS = 1_700_000_000_000
LIMITS = Limits(
    timeout_s=600.0,
    max_timeout_s=3600.0,
    retention_s=60.0,
    unstored_s=20.0,
    listed_s=60.0,
    max_depth=10,
    grace_s=5.0,
    models=(),
    lanes=("default",),
)


class FixedClock:
    """Stop the time."""

    def wall_ms(self) -> int:
        return NOW_MS

    def monotonic(self) -> float:
        return 0.0


def test_each_job_has_its_own_id_that_contains_its_time() -> None:
    client, keys = open_client("redis://127.0.0.1:1"), Keys()
    admission = Admission(
        JobRecords(client, keys, retention_s=60),
        Queue(client, keys),
        QueueAdmission(client, keys),
        cast(WaitingJobs, None),
        FixedClock(),
        LIMITS,
        "gateway-1",
    )
    ids = {admission.new_id() for _ in range(1000)}

    assert len(ids) == 1000
    assert all(is_job_id(each) and created_ms(each) == NOW_MS for each in ids)
