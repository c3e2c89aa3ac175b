"""Test which target of a chain is called."""

import pytest

from shared.model.errors import (
    AttemptFailed,
    CircuitOpen,
    DeadlinePassed,
    ProviderRefused,
    ProviderTimeout,
    ProviderTruncated,
    ProviderUnable,
)
from tests.support.controlled_provider import ControlledProvider
from worker.upstream.breakers import NO, YES, Breakers, CallAllowance, CallOrigin
from worker.upstream.chain import ProviderTarget
from worker.upstream.concurrency import Concurrency
from worker.upstream.selector import Permit, ProviderSelector


class Sick(Breakers):
    """Refuse calls to the `closed` providers, and record each report."""

    def __init__(self, *closed: str, trial: bool = False) -> None:
        self.closed = closed
        self.trial = trial
        self.reports: list[tuple[str, str, str]] = []

    async def allows(self, provider: str, model: str, origin: CallOrigin) -> CallAllowance:
        if provider in self.closed:
            return NO
        return CallAllowance(True, (f"{provider}//{model}",)) if self.trial else YES

    def succeeded(self, provider: str, model: str, origin: CallOrigin) -> None:
        self.reports.append(("succeeded", provider, model))

    def failed(self, provider: str, model: str, origin: CallOrigin) -> None:
        self.reports.append(("failed", provider, model))

    async def given_back(self, allowance: CallAllowance) -> None:
        (name,) = allowance.trials
        provider, _, model = name.split("/")
        self.reports.append(("given back", provider, model))


class Narrow(Concurrency):
    """Refuse a permit at the `full` providers; with `emptying`, grant one to a job that waits."""

    def __init__(self, *full: str, emptying: bool = False) -> None:
        self.full, self.emptying = full, emptying
        self.taken: list[str] = []

    async def acquire(self, provider: str, job_id: str, wait_s: float) -> bool:
        if provider in self.full and not (self.emptying and wait_s):
            return False
        self.taken.append(provider)
        return True

    async def release(self, provider: str, job_id: str) -> None:
        self.taken.remove(provider)


def target(name: str, model: str | None = None) -> ProviderTarget:
    provider = ControlledProvider()
    provider.name = name
    return ProviderTarget(provider, first_token_s=1, gap_s=1, model=model)


ORIGIN = CallOrigin("t", {})


def passed(target: int, provider: str, model: str, *, circuit_open: bool = False) -> Permit:
    return Permit(target, provider, model, circuit_open, origin=ORIGIN)


TARGETS = [target("a"), target("b", "m-b"), target("c")]


async def enter(breakers: Sick, concurrency: Narrow, order: tuple[int, ...] = (0, 1, 2)) -> Permit | None:
    return await ProviderSelector(breakers, concurrency).enter("job", TARGETS, order, "m", ORIGIN)


async def test_the_first_of_the_order_is_asked() -> None:
    concurrency = Narrow()

    assert await enter(Sick(), concurrency, (1, 2, 0)) == passed(1, "b", "m-b")
    assert concurrency.taken == ["b"]


async def test_a_target_whose_circuit_is_open_is_passed_over_and_its_permit_released() -> None:
    concurrency = Narrow()

    assert await enter(Sick("a"), concurrency) == passed(1, "b", "m-b")
    assert concurrency.taken == ["b"]


async def test_a_target_without_a_free_permit_is_passed_over() -> None:
    assert await enter(Sick("b"), Narrow("a")) == passed(2, "c", "m")


async def test_the_first_target_reports_that_all_circuits_are_open() -> None:
    concurrency = Narrow()
    permit = await enter(Sick("a", "b", "c"), concurrency, (1, 0, 2))

    assert permit == passed(1, "b", "m-b", circuit_open=True)
    assert concurrency.taken == []
    with pytest.raises(CircuitOpen, match="The provider b has failed too often"):
        permit.check()
    passed(0, "a", "m").check()


async def test_a_full_target_is_waited_for_if_no_other_can_be_called() -> None:
    concurrency = Narrow("a", emptying=True)

    assert await enter(Sick("b", "c"), concurrency) == passed(0, "a", "m")
    assert concurrency.taken == ["a"]


async def test_an_open_circuit_of_a_full_target_is_reported() -> None:
    concurrency = Narrow("a", emptying=True)

    assert await enter(Sick("a", "b", "c"), concurrency) == passed(0, "a", "m", circuit_open=True)
    assert concurrency.taken == []


async def test_a_permit_is_not_returned_if_every_provider_stays_full() -> None:
    assert await enter(Sick(), Narrow("a", "b", "c")) is None


async def test_a_circuit_that_can_not_be_looked_at_keeps_no_place() -> None:
    class Broken(Sick):
        async def allows(self, provider: str, model: str, origin: CallOrigin) -> CallAllowance:
            raise ValueError("a defect")

    concurrency = Narrow()
    with pytest.raises(ValueError, match="a defect"):
        await enter(Broken(), concurrency)

    assert concurrency.taken == []


async def test_leaving_releases_the_permit_if_it_holds_one() -> None:
    breakers, concurrency = Sick(), Narrow()
    selector = ProviderSelector(breakers, concurrency)
    await selector.leave("job", passed(0, "a", "m", circuit_open=True))
    permit = await selector.enter("job", TARGETS, (0,), "m", ORIGIN)
    assert permit is not None
    await selector.leave("job", permit)

    assert concurrency.taken == []


@pytest.mark.parametrize(
    ("error", "reported"),
    [
        (ProviderTimeout("Silent."), ["failed"]),
        (ProviderTruncated("It ended."), ["failed"]),
        (ProviderRefused("No.", code="server_error"), ["failed"]),
        (ProviderRefused("No.", code="rate_limit_exceeded"), ["succeeded"]),
        (ProviderRefused("No.", code="context_length_exceeded"), ["succeeded"]),
        (ProviderRefused("No.", code="content_policy_violation"), ["succeeded"]),
        (ProviderRefused("No.", code="invalid_request"), ["succeeded"]),
        (ProviderUnable("It can't."), []),
        (DeadlinePassed("Late."), []),
    ],
    ids=lambda value: value.code if isinstance(value, AttemptFailed) else "",
)
def test_only_a_providers_own_faults_are_reported_to_its_circuit(error: AttemptFailed, reported: list[str]) -> None:
    breakers = Sick()
    selector = ProviderSelector(breakers, Narrow())
    selector.failed("job", passed(0, "a", "m"), error)
    selector.failed("job", passed(0, "a", "m", circuit_open=True), error)

    assert [each for each, *_ in breakers.reports] == reported


def test_a_whole_answer_is_reported_to_the_circuit() -> None:
    breakers = Sick()
    ProviderSelector(breakers, Narrow()).succeeded("job", passed(1, "b", "m-b"))

    assert breakers.reports == [("succeeded", "b", "m-b")]


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (ProviderTimeout("Silent."), "failed"),
        (ProviderRefused("No.", code="invalid_request"), "succeeded"),
        (ProviderUnable("It can't."), "given back"),
        (DeadlinePassed("Late."), "given back"),
        (None, "given back"),
    ],
)
async def test_a_trial_ends_with_one_verdict_or_is_given_back(error: AttemptFailed | None, verdict: str) -> None:
    breakers = Sick(trial=True)
    selector = ProviderSelector(breakers, Narrow())
    permit = await selector.enter("job", TARGETS, (0,), "m", ORIGIN)
    assert permit is not None
    if error is not None:
        selector.failed("job", permit, error)
    await selector.leave("job", permit)

    assert breakers.reports == [(verdict, "a", "m")]


async def test_a_trial_that_was_answered_is_not_given_back() -> None:
    breakers = Sick(trial=True)
    selector = ProviderSelector(breakers, Narrow())
    permit = await selector.enter("job", TARGETS, (0,), "m", ORIGIN)
    assert permit is not None
    selector.succeeded("job", permit)
    await selector.leave("job", permit)

    assert breakers.reports == [("succeeded", "a", "m")]
