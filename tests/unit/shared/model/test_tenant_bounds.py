"""Test the shares of one tenant, as numbers."""

import pytest

from shared.model.errors import StartupError
from shared.model.tenant_bounds import UNBOUNDED, TenantBounds, half_of


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


@pytest.mark.parametrize(("most", "new"), [(None, None), (100, 90), (5, 5)])
def test_a_tenth_of_the_bytes_is_left_to_jobs_that_run(most: int | None, new: int | None) -> None:
    assert TenantBounds(bytes=most).bytes_of_new == new


@pytest.mark.parametrize(
    ("bounds", "most"),
    [
        (TenantBounds(bytes=1_000, bytes_percent=50), 1_000),
        (TenantBounds(bytes_percent=50), 500),
        (UNBOUNDED, None),
    ],
)
def test_a_number_of_bytes_counts_before_a_share_of_the_memory(bounds: TenantBounds, most: int | None) -> None:
    assert bounds.in_memory(1_000).bytes == most


def test_a_bound_on_bytes_is_at_most_the_memory() -> None:
    with pytest.raises(StartupError, match=r"TAILRACE_MAX_BYTES_PER_TENANT is 1001, .*which is 1000\."):
        TenantBounds(bytes=1_001).in_memory(1_000)
