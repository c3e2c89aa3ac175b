"""Test settings: from the environment and `tailrace.toml`, and the messages about wrong ones."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from shared.config.settings import Settings, colour_is_wanted, environment_notes, load_settings, terminal_is_dumb
from shared.model.errors import StartupError


def test_without_anything_set_the_defaults_hold() -> None:
    settings = load_settings()

    assert (settings.redis_url, settings.host, settings.port, settings.api_keys) == (None, "127.0.0.1", 8080, ())
    assert (settings.lease_s, settings.retention_s, settings.max_body_bytes) == (10.0, 86_400.0, 1 << 20)
    assert settings.upstream_url is None


def test_every_setting_has_a_description() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_settings_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_PORT", "9000")
    monkeypatch.setenv("TAILRACE_LEASE_S", "2.5")
    monkeypatch.setenv("TAILRACE_API_KEYS", " sk-a:tenant-a, sk-b:tenant_b:admin ,")
    monkeypatch.setenv("TAILRACE_MODELS", "small,large")

    settings = load_settings()

    assert (settings.port, settings.lease_s) == (9000, 2.5)
    assert [(key.key.get_secret_value(), key.tenant, key.admin) for key in settings.api_keys] == [
        ("sk-a", "tenant-a", False),
        ("sk-b", "tenant_b", True),
    ]
    assert settings.models == ("small", "large")


def test_variables_of_other_programs_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "1")
    monkeypatch.setenv("TAILRACE_SOMETHING_ELSE", "1")

    assert load_settings().port == 8080


@pytest.mark.parametrize("name", ["TAILRACE_PORT", "TAILRACE_REDIS_URL", "TAILRACE_PROVIDERS", "OPENAI_BASE_URL"])
def test_an_empty_variable_counts_as_unset(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "")

    assert load_settings() == Settings()
    assert (load_settings().port, load_settings().redis_url, load_settings().upstream_url) == (8080, None, None)


def test_a_kubernetes_service_link_is_not_a_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_PORT", "tcp://10.0.0.1:8080")
    monkeypatch.setenv("TAILRACE_PORT_8080_TCP", "tcp://10.0.0.1:8080")
    monkeypatch.setenv("TAILRACE_SERVICE_HOST", "10.0.0.1")

    assert load_settings().port == 8080
    assert [note.variable for note in environment_notes()] == ["TAILRACE_PORT"]


def test_an_old_name_in_the_environment_is_refused_with_the_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_AGAIN_TOKENS", "7")

    with pytest.raises(StartupError, match=r"^TAILRACE_AGAIN_TOKENS is TAILRACE_MAX_REGENERATED_TOKENS now"):
        load_settings()


def test_an_old_name_in_the_file_is_refused_with_the_new_one(toml: Path) -> None:
    toml.write_text("again_tokens = 7\n")

    with pytest.raises(StartupError, match=r"^TAILRACE_AGAIN_TOKENS is TAILRACE_MAX_REGENERATED_TOKENS now"):
        load_settings()


def test_an_old_name_without_a_value_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_AGAIN_TOKENS", "")

    assert load_settings() == Settings()


def test_a_misspelt_name_is_noted_with_the_right_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_WORKERSLOTS", "7")

    assert load_settings().worker_slots != 7
    (note,) = environment_notes()
    assert note.sentence == "TAILRACE_WORKERSLOTS is not a setting and is ignored; TAILRACE_WORKER_SLOTS is one."


@pytest.mark.parametrize("value", ['{"a": {"base_url": "hunter2"', "hunter2", "{hunter2: 1}"])
def test_malformed_json_is_refused_in_one_sentence(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_PROVIDERS", value)

    with pytest.raises(StartupError, match=r"^TAILRACE_PROVIDERS is not valid JSON: .* at character \d+\.$") as refusal:
        load_settings()

    assert "hunter2" not in str(refusal.value)
    assert refusal.value.__suppress_context__


def test_the_upstream_falls_back_to_the_openai_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://openai.test/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    assert load_settings().upstream_url == "http://openai.test/v1"
    assert load_settings().upstream_api_key == SecretStr("sk-openai")

    monkeypatch.setenv("TAILRACE_UPSTREAM_URL", "http://ours.test/v1")
    monkeypatch.setenv("TAILRACE_UPSTREAM_API_KEY", "sk-ours")
    assert load_settings().upstream_url == "http://ours.test/v1"
    assert load_settings().upstream_api_key == SecretStr("sk-ours")


def test_settings_are_read_from_tailrace_toml_and_the_environment_wins(
    toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml.write_text('port = 9001\nlease_s = 3\napi_keys = ["sk-a:a"]\nmodels = "small,large"\n')
    monkeypatch.setenv("TAILRACE_PORT", "9002")

    settings = load_settings(lease_s=4.0)

    assert (settings.port, settings.lease_s) == (9002, 4.0)
    assert ([key.tenant for key in settings.api_keys], settings.models) == (["a"], ("small", "large"))


def test_the_upstream_can_stand_in_tailrace_toml(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toml.write_text('upstream_url = "http://toml.test/v1"\nupstream_api_key = "sk-toml"\n')
    assert (load_settings().upstream_url, load_settings().upstream_api_key) == (
        "http://toml.test/v1",
        SecretStr("sk-toml"),
    )

    monkeypatch.setenv("TAILRACE_UPSTREAM_URL", "http://ours.test/v1")
    assert load_settings().upstream_url == "http://ours.test/v1"


def test_tailrace_toml_wins_over_the_openai_names(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toml.write_text('upstream_url = "http://toml.test/v1"\n')
    monkeypatch.setenv("OPENAI_BASE_URL", "http://openai.test/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")

    assert (load_settings().upstream_url, load_settings().upstream_api_key) == (
        "http://toml.test/v1",
        SecretStr("sk-openai"),
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TAILRACE_REDIS_URL", "hunter2:6379"),
        ("TAILRACE_STREAM_REDIS_URL", "http://hunter2"),
        ("TAILRACE_REDIS_URL", "redis://:hun/ter2@127.0.0.1:6379/0"),
        ("TAILRACE_REDIS_URL", "redis://:1#hunter2@127.0.0.1:6379"),
        ("TAILRACE_REDIS_URL", "redis://:1?hunter2@127.0.0.1:6379/hunter2"),
        ("TAILRACE_REDIS_URL", "redis://127.0.0.1/hunter2"),
        ("TAILRACE_REDIS_URL", "redis://127.0.0.1:hunter2"),
        ("TAILRACE_STREAM_REDIS_URL", "redis://[hunter2"),
        ("TAILRACE_PORT", "a-secret"),
        ("TAILRACE_PORT", "65536"),
        ("TAILRACE_LEASE_S", "0.1"),
        ("TAILRACE_LEASE_S", "nan"),
        ("TAILRACE_TIMEOUT_S", "-0.5"),
        ("TAILRACE_GATEWAYS", "0"),
        ("TAILRACE_WORKERS", "0"),
        ("TAILRACE_WORKER_SLOTS", "1.5"),
        ("TAILRACE_API_KEYS", "hunter2"),
        ("TAILRACE_API_KEYS", "hunter2:"),
        ("TAILRACE_API_KEYS", ":hunter2"),
        ("TAILRACE_API_KEYS", "sk-a:hunter2:root"),
        ("TAILRACE_API_KEYS", "sk-a:hunter 2"),
        ("TAILRACE_API_KEYS", "sk-a:a,hunter2"),
        ("TAILRACE_LANES", "default"),
        ("TAILRACE_LANES", "default:0"),
        ("TAILRACE_LANES", "default:1001"),
        ("TAILRACE_LANES", "default:2:0"),
        ("TAILRACE_LANES", "default:2:101"),
        ("TAILRACE_LANES", "default:2,Hunter:2"),
        ("TAILRACE_SECRET", "hunter2"),
        ("TAILRACE_PROVIDERS", '{"a": {"api_key": "hunter2"}}'),
        ("TAILRACE_PROVIDERS", '{"a": {"base_url": "http://a.test", "api_key": ["hunter2"]}}'),
        ("TAILRACE_PROVIDERS", '{"a": "hunter2"}'),
        ("TAILRACE_PROVIDERS", '["hunter2"]'),
        ("TAILRACE_ROUTES", '{"a": {"chain": "hunter2"}}'),
        ("TAILRACE_ROUTES", '"hunter2"'),
        ("TAILRACE_KEY_PREFIX", "hunter{2}"),
        ("TAILRACE_LOG_LEVEL", "hunter2"),
        ("TAILRACE_LOG_FORMAT", "hunter2"),
        ("TAILRACE_MAX_BODY_BYTES", "1023"),
    ],
)
def test_a_wrong_value_is_refused_in_one_sentence_that_names_the_setting_and_not_the_value(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(StartupError) as refusal:
        load_settings()

    sentence = str(refusal.value)
    assert name in sentence
    assert value not in sentence and "hunter2" not in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert refusal.value.__suppress_context__


def test_several_wrong_values_are_named_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_PORT", "x")
    monkeypatch.setenv("TAILRACE_WORKERS", "x")

    with pytest.raises(StartupError, match=r"TAILRACE_PORT: .+; TAILRACE_WORKERS: .+\.$"):
        load_settings()


def test_an_unknown_name_in_tailrace_toml_is_refused_by_name(toml: Path) -> None:
    toml.write_text("prot = 9001\n")

    with pytest.raises(StartupError, match="TAILRACE_PROT"):
        load_settings()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (b"port = \n", ", at line 1, column 8"),
        (b'secret = "hunter2 hunter2\n', ", at line 1, column 26"),
        (b"hunter2 = 1\n[hunter2]\n", ", at line 2, column 9"),
        (b'secret = "hunter2', ", at end of document"),
        (b'secret = "\xff"\n', ": it is not UTF-8"),
    ],
)
def test_a_malformed_tailrace_toml_is_refused_in_one_sentence(toml: Path, text: bytes, place: str) -> None:
    toml.write_bytes(text)

    with pytest.raises(StartupError) as refusal:
        load_settings()

    assert str(refusal.value) == f"tailrace.toml is not valid TOML{place}."
    assert refusal.value.__suppress_context__


def test_a_tailrace_toml_that_cannot_be_read_is_refused_in_one_sentence(
    toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    toml.write_text("port = 9001\n")
    monkeypatch.setattr(Path, "open", refuse)

    with pytest.raises(StartupError, match=r"^tailrace\.toml can't be read: Permission denied\.$"):
        load_settings()


def test_settings_can_not_be_changed_once_read() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().port = 1  # type: ignore[misc]


@pytest.mark.parametrize(("value", "wanted"), [(None, True), ("", True), ("1", False), ("0", False)])
def test_colour_is_wanted_unless_no_color_is_set_to_anything(
    value: str | None, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    if value is not None:
        monkeypatch.setenv("NO_COLOR", value)

    assert colour_is_wanted() is wanted


@pytest.mark.parametrize(("value", "dumb"), [(None, True), ("dumb", True), ("xterm-256color", False)])
def test_a_terminal_of_no_known_type_is_dumb(value: str | None, dumb: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TERM", raising=False)
    if value is not None:
        monkeypatch.setenv("TERM", value)

    assert terminal_is_dumb() is dumb


def test_a_worker_serves_all_lanes_or_those_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [lane.name for lane in load_settings().served_lanes] == ["high", "default", "low"]

    monkeypatch.setenv("TAILRACE_WORKER_LANES", "low, high")
    assert [(lane.name, lane.weight) for lane in load_settings().served_lanes] == [("high", 4), ("low", 1)]


def test_a_lane_of_a_worker_that_does_not_exist_is_refused_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_WORKER_LANES", "low,slow")
    with pytest.raises(
        StartupError, match=r"TAILRACE_WORKER_LANES: .*slow is not one of TAILRACE_LANES: high, default, low"
    ):
        load_settings()
