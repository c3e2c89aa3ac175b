"""Test the settings of access: keys, plans, hosts, origins and the path prefix."""

import pytest

from shared.config.settings import load_settings
from shared.model.errors import StartupError
from shared.model.webhooks.target import PUBLIC_ONLY, AllowedTargets


@pytest.mark.parametrize("origin", ["https://chat.example", "http://localhost:3000", "http://[::1]:8080", "*"])
def test_an_origin_is_taken_as_browsers_send_it(monkeypatch: pytest.MonkeyPatch, origin: str) -> None:
    monkeypatch.setenv("TAILRACE_CORS_ORIGINS", f"{origin}, https://other.example")

    assert load_settings().cors_origins == (origin, "https://other.example")


@pytest.mark.parametrize(
    "origin", ["chat.example", "https://chat.example/", "https://Chat.example", "null", "https://*"]
)
def test_an_origin_that_would_never_match_is_refused(monkeypatch: pytest.MonkeyPatch, origin: str) -> None:
    monkeypatch.setenv("TAILRACE_CORS_ORIGINS", origin)

    with pytest.raises(StartupError, match=r"TAILRACE_CORS_ORIGINS.*https://chat\.example:8443"):
        load_settings()


def test_a_plan_may_name_only_lanes_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_API_KEYS", "sk-a:a:lanes=default+express,sk-b:b:lanes=low")

    with pytest.raises(
        StartupError, match=r"TAILRACE_LANES: .*TAILRACE_API_KEYS may use express, which must be one of TAILRACE_LANES"
    ):
        load_settings()

    monkeypatch.setenv("TAILRACE_LANES", "express:8, default:2,low:1:100")
    assert load_settings().lanes == ("express:8", "default:2", "low:1:100")


def test_a_cap_is_held_against_the_slots_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_LANES", "default:2,low:1:5")
    assert load_settings(worker_slots=5).lanes == ("default:2", "low:1:5")

    with pytest.raises(StartupError, match="cap must be at most TAILRACE_WORKER_SLOTS, which is 4"):
        load_settings(worker_slots=4)


def test_one_key_is_one_tenants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_API_KEYS", "sk-a:alice,sk-a:bob")
    with pytest.raises(
        StartupError, match="a key must belong to one tenant; one is given to the tenants alice and bob"
    ) as error:
        load_settings()
    assert "sk-a" not in str(error.value)


@pytest.mark.parametrize("host", ["chat.example:8080", "http://chat.example", "a b", "[::1"])
def test_a_host_has_neither_scheme_nor_port(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("TAILRACE_HOSTS", host)
    with pytest.raises(StartupError, match=r"TAILRACE_HOSTS: .*each must be a host name or an address without a port"):
        load_settings()


def test_hosts_do_not_depend_on_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_HOSTS", "Chat.Example, [::1]")
    assert load_settings().hosts == ("chat.example", "[::1]")


def test_a_path_prefix_is_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_PATH_PREFIX", "/llm")
    assert load_settings().path_prefix == "/llm"

    monkeypatch.setenv("TAILRACE_PATH_PREFIX", "llm/")
    with pytest.raises(StartupError, match=r"TAILRACE_PATH_PREFIX.*begins with /"):
        load_settings()


def test_targets_of_webhooks_are_hosts_and_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().webhook_targets == PUBLIC_ONLY

    monkeypatch.setenv("TAILRACE_WEBHOOK_ALLOW", "127.0.0.0/8, hooks.internal")
    assert load_settings().webhook_targets == AllowedTargets(frozenset({"hooks.internal"}), ("127.0.0.0/8",))

    monkeypatch.setenv("TAILRACE_WEBHOOK_ALLOW", "http://hooks.internal")
    with pytest.raises(StartupError, match=r"TAILRACE_WEBHOOK_ALLOW.*host name, an address or a network"):
        load_settings()
