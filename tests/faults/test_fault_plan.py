"""Test the plan of the upstream's faults from a seed: no kind is more frequent than another, none is permanent."""

from collections import Counter

import pytest

from shared.model.errors import AttemptFailed
from tests.faults.fault_plan import KINDS, FaultPlan
from tests.support.upstream import Manner, WireScript, ask, running_upstream
from worker.model.retry import FailureClass, classify
from worker.upstream.providers.openai_compatible import OpenAICompatible

SCRIPT = WireScript(tokens=40)
SILENT = ("hang", "stall", "keepalives")
WHOLE = "no [DONE]"


def befallen(planned_faults: FaultPlan, calls: int, question: str | None = None) -> list[tuple[str, WireScript] | None]:
    """Return the planned faults of so many calls, each with a question of its own, or with this one."""
    return [planned_faults.next(question or str(number), SCRIPT, 40) for number in range(calls)]


def kinds(planned_faults: list[tuple[str, WireScript] | None]) -> Counter[str]:
    return Counter(planned_fault[0] for planned_fault in planned_faults if planned_fault is not None)


def test_a_seed_has_the_same_lapses_each_time_and_another_one_others() -> None:
    assert befallen(FaultPlan(1), 500) == befallen(FaultPlan(1), 500)
    assert befallen(FaultPlan(1), 500) != befallen(FaultPlan(2), 500)


def test_each_kind_of_fault_is_equally_frequent_in_about_the_requested_share() -> None:
    found = kinds(befallen(FaultPlan(3, share=0.1), 10_000))

    assert set(found) == set(KINDS)
    assert max(found.values()) - min(found.values()) <= 1
    assert 900 < found.total() < 1_100


def test_an_upstream_with_no_share_has_no_lapses() -> None:
    assert not kinds(befallen(FaultPlan(3, share=0.0), 1_000))


def test_no_question_is_answered_with_garbage_twice() -> None:
    found = kinds(befallen(FaultPlan(4, share=1.0), 200, "the same"))

    assert found["garbage"] == 1
    assert found.total() == 200


def test_a_fault_in_mid_stream_is_planned_for_any_token() -> None:
    found = [
        planned_fault[1].after
        for planned_fault in befallen(FaultPlan(5, share=1.0), 2_000)
        if planned_fault and planned_fault[0] == "reset"
    ]

    assert set(found) == set(range(40))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in SILENT])
async def test_no_lapse_is_for_good(kind: str) -> None:
    """The worker's own code judges the answer. Not here: silent upstreams, which its time-outs give up."""
    planned_faults = [
        planned_fault
        for planned_fault in befallen(FaultPlan(6, share=1.0), 200)
        if planned_fault and planned_fault[0] == kind
    ]
    error: AttemptFailed | None = None
    reasons: list[str] = []
    async with running_upstream(manner=Manner(planned_fault=lambda *_: planned_faults[0])) as upstream:
        provider = OpenAICompatible("upstream", upstream.base_url)
        try:
            async with provider.stream(ask(tokens=40)) as chunks:
                reasons = [reason async for chunk in chunks for _, reason in chunk.finished]
        except AttemptFailed as failed:
            error = failed
        finally:
            await provider.close()

    assert upstream.meter.planned_faults == {kind: 1}
    # An end without a finish reason is found by the chain.
    assert (reasons == ["stop"]) == (kind == WHOLE)
    assert error is None or classify(error).failure_class is not FailureClass.DETERMINISTIC
