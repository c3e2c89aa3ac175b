"""Test the stop switch of a job: a stop reaches the execution that runs, or else the next one."""

from typing import cast

from shared.model.errors import AttemptFailed, ProviderTimeout
from shared.store.wire.answers import StopReason
from worker.execution.ending import Ending
from worker.execution.executions import RunningExecution
from worker.execution.stop_switch import StopSwitch


class Recorded:
    """Record why an execution was stopped."""

    def __init__(self) -> None:
        self.stopped: StopReason | None = None

    def stop(self, reason: StopReason) -> None:
        self.stopped = reason

    async def run(self) -> Ending | AttemptFailed | None:
        return ProviderTimeout("Late.")


def running(execution: Recorded) -> RunningExecution:
    return cast(RunningExecution, execution)


def test_a_stop_reaches_the_execution_that_runs() -> None:
    switch, execution = StopSwitch(), Recorded()
    switch.execution = running(execution)

    switch.stop(StopReason.CANCELLED)

    assert execution.stopped is StopReason.CANCELLED


async def test_a_stop_before_the_execution_begins_stops_it_and_not_the_one_after() -> None:
    switch, first, second = StopSwitch(), Recorded(), Recorded()

    switch.stop(StopReason.CANCELLED)
    await switch.run(running(first))
    await switch.run(running(second))

    assert (first.stopped, second.stopped, switch.execution) == (StopReason.CANCELLED, None, None)


async def test_a_drain_stops_the_execution_that_runs_and_each_later_one() -> None:
    switch, first, second = StopSwitch(), Recorded(), Recorded()
    switch.execution = running(first)

    switch.drain()
    await switch.run(running(second))

    assert (first.stopped, second.stopped, switch.draining) == (StopReason.DRAIN, StopReason.DRAIN, True)
