"""Test the token latency of a provider: its first token, the gaps after it, and the party at fault for an end."""

import pytest

from shared.model.errors import AttemptFailed, OutputTooLarge, ProviderRefused, ProviderTruncated
from shared.model.metrics import Metrics, Sample
from tests.unit.worker.execution.test_pump import ManualClock
from worker.execution.token_latency import TokenLatency

PROVIDER = "a-provider"


def test_the_first_read_is_the_first_token_and_each_further_one_a_gap() -> None:
    metrics, clock = Metrics(), ManualClock()
    latency = TokenLatency(metrics, clock, PROVIDER)
    began, unknown = clock.now, latency.first_at
    for passes, deltas in ((2.0, 1), (0.5, 3), (0.25, 1)):
        clock.now += passes
        latency.came(deltas)

    assert (unknown, latency.first_at) == (None, began + 2.0)
    first, gap = metrics.first_token.of(PROVIDER).numbers(), metrics.gap.of(PROVIDER).numbers()
    assert sum(first[:-1]) == 1 and first[-1] == pytest.approx(2.0)
    assert sum(gap[:-1]) == 2 and gap[-1] == pytest.approx(0.75)
    assert metrics.deltas.samples() == [Sample((PROVIDER,), (5.0,))]


def test_the_series_of_a_provider_exist_before_its_first_token() -> None:
    metrics = Metrics()
    TokenLatency(metrics, ManualClock(), PROVIDER)

    assert metrics.deltas.samples() == [Sample((PROVIDER,), (0.0,))]
    assert metrics.provider_failures.samples() == []


@pytest.mark.parametrize(
    ("error", "counted"),
    [
        (ProviderTruncated("It ended."), [Sample((PROVIDER, "provider_truncated"), (1.0,))]),
        (ProviderRefused("No.", code="rate_limit_exceeded"), [Sample((PROVIDER, "rate_limit_exceeded"), (1.0,))]),
        (ProviderRefused("No.", code="model_not_found"), [Sample((PROVIDER, "model_not_found"), (1.0,))]),
        (ProviderRefused("No.", code="invalid_request"), []),
        (ProviderRefused("No.", code="context_length_exceeded"), []),
        (ProviderRefused("No.", code="content_policy_violation"), []),
        (OutputTooLarge("It is too much."), []),
    ],
    ids=lambda value: value.code if isinstance(value, AttemptFailed) else str(len(value)),
)
def test_only_the_providers_own_failures_are_counted_as_such(error: AttemptFailed, counted: list[Sample]) -> None:
    metrics = Metrics()
    TokenLatency(metrics, ManualClock(), PROVIDER).failed(error)

    assert metrics.provider_failures.samples() == counted
