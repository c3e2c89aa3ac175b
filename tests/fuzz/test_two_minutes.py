"""Two minutes of requests of a seed: a file of its own, so that it can run beside the other tests.

Not here: whether a wrong answer would be seen (test_fuzz.py).
"""

import pytest

from shared.config.settings import Settings
from tests.fuzz.run import run

SEED, SECONDS = 202, 120.0
LEAST_REQUESTS = 3_000
"""A busy machine sends fewer: a quiet one sends ten times as many."""


@pytest.mark.timeout(240)
@pytest.mark.slow(120, "two minutes of requests")
@pytest.mark.endurance
async def test_nothing_goes_wrong_in_two_minutes(settings: Settings) -> None:
    report = await run(settings.model_copy(update={"retention_s": 2.0}), seed=SEED, seconds=SECONDS)

    assert report.problems == []
    assert report.structured + report.raw > LEAST_REQUESTS
