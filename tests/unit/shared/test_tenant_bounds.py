"""The shares of one tenant, as numbers."""

import pytest

from shared.tenant_bounds import UNBOUNDED, TenantBounds, half_of


@pytest.mark.parametrize(("total", "share"), [(10_000, 5_000), (3, 1), (1, 1)])
def test_a_share_is_half_of_the_total_and_at_least_one(total: int, share: int) -> None:
    assert half_of(total) == share


@pytest.mark.parametrize(
    ("bounds", "term"),
    [
        (UNBOUNDED, ""),
        (TenantBounds(running_percent=80), "80%"),
        (TenantBounds(running=3), "3"),
        (TenantBounds(running=3, running_percent=80), "3"),
    ],
)
def test_a_number_counts_before_a_share_of_the_slots(bounds: TenantBounds, term: str) -> None:
    assert bounds.running_term == term
