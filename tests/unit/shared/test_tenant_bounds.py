"""The shares of one tenant, as numbers."""

import pytest

from shared.tenant_bounds import half_of


@pytest.mark.parametrize(("total", "share"), [(10_000, 5_000), (3, 1), (1, 1)])
def test_a_share_is_half_of_the_total_and_at_least_one(total: int, share: int) -> None:
    assert half_of(total) == share
