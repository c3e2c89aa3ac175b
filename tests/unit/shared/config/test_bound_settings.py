"""Test the bounds of each tenant: their defaults, and values that are refused."""

import pytest

from shared.config.settings import load_settings
from shared.model.errors import StartupError

SEVERAL = ("sk-a:alice", "sk-b:bob")


def test_one_tenant_of_several_gets_a_share_by_default() -> None:
    bounds = load_settings(api_keys=SEVERAL).tenant_bounds

    assert (bounds.waiting, bounds.running_term) == (5_000, "80%")


@pytest.mark.parametrize("keys", [(), ("sk-a:alice", "sk-b:alice:admin")])
def test_a_tenant_that_is_alone_gets_all(keys: tuple[str, ...]) -> None:
    bounds = load_settings(api_keys=keys, max_depth=7).tenant_bounds

    assert (bounds.waiting, bounds.running_term) == (7, "")


def test_bounds_that_are_set_count_for_whatever_tenants_there_are() -> None:
    for keys in ((), SEVERAL):
        bounds = load_settings(api_keys=keys, max_waiting_per_tenant=3, max_running_per_tenant=2).tenant_bounds
        assert (bounds.waiting, bounds.running_term) == (3, "2")


NAMES = [
    "max_waiting_per_tenant",
    "max_running_per_tenant",
    "max_dead_letters_per_tenant",
    "max_streams_per_tenant",
    "max_bytes_per_tenant",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", ["0", "-1", "x"])
def test_a_bound_that_is_not_a_number_above_zero_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"TAILRACE_{name.upper()}", value)

    with pytest.raises(StartupError, match=f"TAILRACE_{name.upper()}: "):
        load_settings()


def test_a_bound_is_at_most_its_total() -> None:
    assert load_settings(max_depth=4, max_waiting_per_tenant=12).max_waiting_per_tenant == 12

    with pytest.raises(StartupError, match=r"MAX_WAITING_PER_TENANT: .*TAILRACE_MAX_DEPTH for each lane, .* 12 in all"):
        load_settings(max_depth=4, max_waiting_per_tenant=13)

    with pytest.raises(StartupError, match=r"DEAD_LETTERS_PER_TENANT: .*TAILRACE_MAX_DEAD_LETTERS, which is 4"):
        load_settings(max_dead_letters=4, max_dead_letters_per_tenant=5)


def test_a_tenants_streams_are_at_most_a_gateways_connections() -> None:
    assert [load_settings(api_keys=keys).tenant_bounds.streams for keys in ((), SEVERAL)] == [16_384, 8_192]
    assert load_settings(max_streams_per_tenant=3).tenant_bounds.streams == 3

    with pytest.raises(StartupError, match=r"STREAMS_PER_TENANT: .*less than or equal to 16384"):
        load_settings(max_streams_per_tenant=16_385)


def test_a_tenants_bytes_are_half_of_the_servers_memory_unless_it_is_alone() -> None:
    for keys, share in (((), None), (SEVERAL, 500)):
        assert load_settings(api_keys=keys).tenant_bounds.in_memory(1_000).bytes == share
    assert load_settings(max_bytes_per_tenant=1 << 20).tenant_bounds.in_memory(1 << 20).bytes == 1 << 20


def test_a_tenants_dead_letters_are_half_of_all_by_default() -> None:
    assert load_settings(max_dead_letters=9).tenant_bounds.dead_letters == 4
    assert load_settings(max_dead_letters_per_tenant=7).tenant_bounds.dead_letters == 7


@pytest.mark.parametrize("value", ["0", "-1", "1024"])
def test_a_ceiling_that_holds_no_body_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TAILRACE_MAX_MEMORY", value)

    with pytest.raises(StartupError, match=r"TAILRACE_MAX_MEMORY: .*16777216"):
        load_settings()
