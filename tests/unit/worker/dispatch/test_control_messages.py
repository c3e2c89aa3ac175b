"""Test that a message of the control channel reaches the part that it is for."""

from typing import cast

import pytest

from shared.store.wire.answers import StopReason
from shared.store.wire.control import CancelJob, JobEnded, PermitReleased, encode_message
from worker.dispatch.control_messages import handle_control_message
from worker.dispatch.reaper import Reaper
from worker.execution.runs import Runs
from worker.upstream.concurrency import Concurrency

JOB = "job_01m8ak3p63hb4vhzenqqsd3wjw"


class Parts:
    """Record the calls to the runs, the concurrency permits and the reaper."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def stop(self, job_id: str, reason: StopReason) -> None:
        self.calls.append(f"{reason} {job_id}")

    def freed(self, provider: str) -> None:
        self.calls.append(f"freed {provider}")

    def sweep_soon(self) -> None:
        self.calls.append("sweep")


@pytest.mark.parametrize(
    ("raw", "calls"),
    [
        (encode_message(CancelJob(JOB)), [f"cancelled {JOB}"]),
        (encode_message(PermitReleased("p")), ["freed p"]),
        (encode_message(JobEnded(JOB)), ["sweep"]),
        (b"of a newer version", []),
    ],
)
def test_a_message_reaches_its_part(raw: bytes, calls: list[str]) -> None:
    parts = Parts()

    handle_control_message(raw, cast(Runs, parts), cast(Concurrency, parts), cast(Reaper, parts))

    assert parts.calls == calls
