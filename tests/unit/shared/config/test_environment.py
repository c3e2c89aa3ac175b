"""Test variables that look like settings: Kubernetes' service links, misspelt names, and those of other programs."""

import pytest

from shared.config.environment import Note, Trouble, find_notes, is_service_link

SETTINGS = ("port", "redis_url", "worker_slots", "workers", "api_keys", "api_key")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TAILRACE_PORT", "tcp://10.0.0.1:8080"),
        ("tailrace_port", "udp://10.0.0.1:8080"),
        ("TAILRACE_SERVICE_HOST", "10.0.0.1"),
        ("TAILRACE_SERVICE_PORT", "8080"),
        ("TAILRACE_SERVICE_PORT_HTTP", "8080"),
        ("TAILRACE_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
        ("TAILRACE_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("TAILRACE_REDIS_PORT", "tcp://10.0.0.2:6379"),
    ],
)
def test_a_service_link_is_recognised(name: str, value: str) -> None:
    assert is_service_link(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("TAILRACE_PORT", "8080"), ("TAILRACE_UPSTREAM_URL", "http://u.test"), ("TAILRACE_REDIS_URL", "tcp://x")],
)
def test_a_setting_is_not_a_service_link(name: str, value: str) -> None:
    assert not is_service_link(name, value)


def test_a_service_link_under_a_settings_name_is_noted_and_the_others_are_not() -> None:
    environment = {"TAILRACE_PORT": "tcp://10.0.0.1:8080", "TAILRACE_SERVICE_HOST": "10.0.0.1"}

    assert list(find_notes(environment, SETTINGS)) == [
        Note(
            Trouble.SERVICE_LINK,
            "TAILRACE_PORT",
            "TAILRACE_PORT is a Kubernetes service link and is ignored; set enableServiceLinks: false.",
        )
    ]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("TAILRACE_WORKERSLOTS", "TAILRACE_WORKER_SLOTS"),
        ("TAILRACE_WORKER_SLOT", "TAILRACE_WORKER_SLOTS"),
        ("TAILRACE_REDIS_ULR", "TAILRACE_REDIS_URL"),
        ("TAILRACEREDIS_URL", "TAILRACE_REDIS_URL"),
        ("TAIL_RACE_REDIS_URL", "TAILRACE_REDIS_URL"),
        ("tailrace_redisurl", "TAILRACE_REDIS_URL"),
    ],
)
def test_a_misspelt_name_is_noted_with_the_right_one(name: str, meant: str) -> None:
    (note,) = find_notes({name: "x"}, SETTINGS)

    assert (note.trouble, note.variable) == (Trouble.MISSPELT, name.upper())
    assert note.sentence.endswith(f"; {meant} is one.")


@pytest.mark.parametrize(
    "name", ["PATH", "REDIS_URL", "TAILRACE_IMAGE", "TAILRACE_PORT", "tailrace_workers", "TAILSCALE_PORT", "TAILRACE_"]
)
def test_settings_and_other_programs_variables_are_not_noted(name: str) -> None:
    assert list(find_notes({name: "1"}, SETTINGS)) == []
