"""The shortest of the outages, at the times of production. `make outages` has the others: they take minutes."""

from pathlib import Path

import pytest

from tests.faults.outages import outage


@pytest.mark.slow(15, "an outage at the times of production")
async def test_a_second_without_redis_restarts_no_job_and_leaves_every_reader_exact(tmp_path: Path) -> None:
    score = await outage(tmp_path / "run", 1.0)

    assert score.problems == []
    assert score.kept
