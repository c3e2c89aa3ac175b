"""The readers' program with a thousand of them: its assertions hold at any speed of the machine."""

import pytest

from shared.config.settings import Settings
from tests.load.readers import measure

READERS = 1_000


@pytest.mark.timeout(120)
@pytest.mark.slow(8, "a thousand readers")
async def test_many_idle_readers_and_a_frozen_one_cost_little_and_delay_no_other(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Coverage keeps data of its own about each reader, which must not be weighed.
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    monkeypatch.delenv("COVERAGE_PROCESS_START", raising=False)
    own = settings.model_copy(update={"send_timeout_s": 1.0, "first_token_timeout_s": 30.0})

    report = await measure(own, READERS, rate=0)

    assert report.failures == []
    assert report.stream_mib > 8  # more than any socket takes: the frozen one was held back by the gateway
