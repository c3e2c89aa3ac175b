"""The shortest soak. `make faults` has one of minutes."""

from pathlib import Path

import pytest

from tests.faults.soak import soak


@pytest.mark.timeout(120)
@pytest.mark.slow(25, "waits until what was kept has expired")
async def test_the_number_of_keys_after_the_retention_is_that_of_the_start(tmp_path: Path) -> None:
    found = await soak(tmp_path / "run", 5.0, newcomer=False)

    assert found.problems == []
    assert found.requests >= 40
    assert found.most > 3 * found.before
    assert found.after <= found.before
