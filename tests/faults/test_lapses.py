"""Plan the upstream's lapses from a seed: no kind is more frequent than another, and no lapse is for good."""

from collections import Counter

import pytest

from shared.model.errors import AttemptFailed
from tests.faults.lapses import KINDS, Lapses
from tests.support.upstream import Manner, WireScript, ask, running_upstream
from worker.model.retry import FailureClass, classify
from worker.upstream.providers.openai_compatible import OpenAICompatible

SCRIPT = WireScript(tokens=40)
SILENT = ("hang", "stall", "keepalives")
WHOLE = "no [DONE]"


def befallen(lapses: Lapses, calls: int, question: str | None = None) -> list[tuple[str, WireScript] | None]:
    """Return the lapses of so many calls, each with a question of its own, or with this one."""
    return [lapses.next(question or str(number), SCRIPT, 40) for number in range(calls)]


def kinds(lapses: list[tuple[str, WireScript] | None]) -> Counter[str]:
    return Counter(lapse[0] for lapse in lapses if lapse is not None)


def test_a_seed_has_the_same_lapses_each_time_and_another_one_others() -> None:
    assert befallen(Lapses(1), 500) == befallen(Lapses(1), 500)
    assert befallen(Lapses(1), 500) != befallen(Lapses(2), 500)


def test_each_kind_comes_as_often_as_any_other_in_about_the_share_that_was_asked_for() -> None:
    found = kinds(befallen(Lapses(3, share=0.1), 10_000))

    assert set(found) == set(KINDS)
    assert max(found.values()) - min(found.values()) <= 1
    assert 900 < found.total() < 1_100


def test_an_upstream_with_no_share_has_no_lapses() -> None:
    assert not kinds(befallen(Lapses(3, share=0.0), 1_000))


def test_no_question_is_answered_with_garbage_twice() -> None:
    found = kinds(befallen(Lapses(4, share=1.0), 200, "the same"))

    assert found["garbage"] == 1
    assert found.total() == 200


def test_what_comes_in_mid_stream_comes_at_any_token() -> None:
    found = [lapse[1].after for lapse in befallen(Lapses(5, share=1.0), 2_000) if lapse and lapse[0] == "reset"]

    assert set(found) == set(range(40))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in SILENT])
async def test_no_lapse_is_for_good(kind: str) -> None:
    """The worker's own code judges the answer. Not here: silent upstreams, which its time-outs give up."""
    lapses = [lapse for lapse in befallen(Lapses(6, share=1.0), 200) if lapse and lapse[0] == kind]
    error: AttemptFailed | None = None
    reasons: list[str] = []
    async with running_upstream(manner=Manner(lapse=lambda *_: lapses[0])) as upstream:
        provider = OpenAICompatible("upstream", upstream.base_url)
        try:
            async with provider.stream(ask(tokens=40)) as chunks:
                reasons = [reason async for chunk in chunks for _, reason in chunk.finished]
        except AttemptFailed as failed:
            error = failed
        finally:
            await provider.close()

    assert upstream.meter.lapses == {kind: 1}
    # An end without a finish reason is found by the chain.
    assert (reasons == ["stop"]) == (kind == WHOLE)
    assert error is None or classify(error).failure_class is not FailureClass.DETERMINISTIC
