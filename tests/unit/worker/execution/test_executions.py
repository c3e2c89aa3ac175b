"""Test the registry of executions: each kind of job starts its own, with the bounds and parts of the process."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from shared.model.errors import StartupError
from shared.model.kinds import CHAT, CHAT_KIND, EMBEDDINGS, EMBEDDINGS_KIND, KindSpec
from shared.model.metrics import Metrics
from shared.store.executions import Execution
from shared.store.wire.answers import StopReason
from worker.execution.attempt import Attempt, AttemptInput
from worker.execution.embedding import Embedding
from worker.execution.executions import EXECUTABLE_KINDS, ExecutionServices, KindExecution
from worker.upstream.chain import ProviderTarget

LEFT_S = 7.0


class FixedClock:
    """Stop the time."""

    def monotonic(self) -> float:
        return 100.0


class RecordingPump:
    """Record the executions that send it frames."""

    def __init__(self) -> None:
        self.clock = FixedClock()
        self.opened: list[Execution] = []

    def open(self, execution: Execution, _: object) -> object:
        self.opened.append(execution)
        return SimpleNamespace(seq=execution.seq)


def services(pump: RecordingPump) -> ExecutionServices:
    parts: dict[str, Any] = {"store": None, "results": None, "checkpoints": None, "pump": pump, "metrics": Metrics()}
    return ExecutionServices(**parts, max_log_bytes=1000, max_result_bytes=2000)


def begun() -> Execution:
    return Execution("job", owner="owner", epoch=3, seq=2, base=1, attempt=1, left_ms=int(LEFT_S * 1000))


def given() -> AttemptInput:
    target = cast(ProviderTarget, SimpleNamespace(name="provider"))
    return AttemptInput({"model": "m", "input": ["a"], "messages": []}, target, None, lambda: None)


@pytest.mark.parametrize(
    ("kind", "spec", "execution", "pumped"),
    [(CHAT, CHAT_KIND, Attempt, True), (EMBEDDINGS, EMBEDDINGS_KIND, Embedding, False)],
)
async def test_each_kind_starts_its_own_execution(kind: str, spec: KindSpec, execution: type, pumped: bool) -> None:
    pump, job = RecordingPump(), begun()
    started = EXECUTABLE_KINDS[kind].start(job, given(), services(pump))

    assert EXECUTABLE_KINDS[kind].spec is spec
    assert isinstance(started, execution)
    assert (started.execution, started.shown, started.left_s) == (job, 0, LEFT_S)
    assert (str(started.last), started.stopped) == ("3-2", None)
    assert pump.opened == ([job] if pumped else [])


@pytest.mark.parametrize("kind", [CHAT, EMBEDDINGS])
async def test_only_the_first_reason_for_a_stop_counts(kind: str) -> None:
    pump = RecordingPump()
    started = EXECUTABLE_KINDS[kind].start(begun(), given(), services(pump))
    for reason in (StopReason.DRAIN, StopReason.CANCELLED):
        started.stop(reason)

    assert started.stopped is StopReason.DRAIN


def test_an_added_kind_starts_its_own_execution() -> None:
    made = cast(Any, object())
    own = KindExecution(KindSpec("own", CHAT_KIND.result, streams_text=False), lambda *_: made)

    assert EXECUTABLE_KINDS.adding(own)["own"].start(begun(), given(), services(RecordingPump())) is made


def test_a_kind_of_the_name_of_another_is_refused() -> None:
    with pytest.raises(StartupError, match="Two kinds are named chat"):
        EXECUTABLE_KINDS.adding(EXECUTABLE_KINDS[CHAT])
