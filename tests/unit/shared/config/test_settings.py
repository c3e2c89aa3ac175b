"""Test settings: from the environment and `tailrace.toml`, and the messages about wrong ones."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from shared.config.settings import Settings, colour_is_wanted, environment_notes, load_settings, terminal_is_dumb
from shared.model.api_keys import parse_api_key
from shared.model.errors import StartupError


@pytest.fixture
def toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path from which `tailrace.toml` would be read; the file does not exist yet."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "tailrace.toml"


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


def test_what_other_programs_set_is_none_of_our_business(monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_json_that_is_none_is_refused_in_one_sentence(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_a_tailrace_toml_that_is_no_toml_is_refused_in_one_sentence(toml: Path, text: bytes, place: str) -> None:
    toml.write_bytes(text)

    with pytest.raises(StartupError) as refusal:
        load_settings()

    assert str(refusal.value) == f"tailrace.toml is not valid TOML{place}."
    assert refusal.value.__suppress_context__


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
def test_a_terminal_that_does_not_say_what_it_knows_is_dumb(
    value: str | None, dumb: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TERM", raising=False)
    if value is not None:
        monkeypatch.setenv("TERM", value)

    assert terminal_is_dumb() is dumb


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


# Bounds for each tenant.

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
def test_a_bound_that_is_no_number_above_zero_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"TAILRACE_{name.upper()}", value)

    with pytest.raises(StartupError, match=f"TAILRACE_{name.upper()}: "):
        load_settings()


def test_a_bound_is_no_larger_than_its_total() -> None:
    assert load_settings(max_depth=4, max_waiting_per_tenant=12).max_waiting_per_tenant == 12

    with pytest.raises(StartupError, match=r"MAX_WAITING_PER_TENANT: .*TAILRACE_MAX_DEPTH for each lane, .* 12 in all"):
        load_settings(max_depth=4, max_waiting_per_tenant=13)

    with pytest.raises(StartupError, match=r"DEAD_LETTERS_PER_TENANT: .*TAILRACE_MAX_DEAD_LETTERS, which is 4"):
        load_settings(max_dead_letters=4, max_dead_letters_per_tenant=5)


def test_a_tenants_streams_are_no_more_than_a_gateways_connections() -> None:
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


# Secrets.

SECRETS = {
    "redis_url": "redis://:hunter2@127.0.0.1:6379/0",
    "stream_redis_url": "unix://:hunter2@/run/valkey.sock",
    "secret": "hunter2 hunter2 hunter2",
    "api_key": "sk-hunter2",
    "api_keys": "sk-hunter2:alice:admin,sk-hunter2-b:bob",
}
ONE_UPSTREAM = {"upstream_url": "http://u.test/v1", "upstream_api_key": "sk-hunter2"}
SEVERAL_UPSTREAMS = {"providers": {"a": {"base_url": "http://a.test/v1", "api_key": "sk-hunter2"}}}


@pytest.mark.parametrize("upstream", [ONE_UPSTREAM, SEVERAL_UPSTREAMS])
def test_no_secret_is_in_a_repr_or_a_dump_of_the_settings(upstream: dict[str, Any]) -> None:
    settings = load_settings(**SECRETS, **upstream)

    for holder in (settings, settings.providers, settings.route_table().upstreams, settings.model_dump()):
        assert "hunter2" not in f"{holder!r} {holder}"
    assert "hunter2" not in settings.model_dump_json()


def test_a_copy_hides_the_secrets_that_it_is_given() -> None:
    copy = load_settings().model_copy(update={**SECRETS, "api_keys": ("sk-hunter2:alice",), "port": 1})

    assert "hunter2" not in repr(copy)
    assert copy.secret == SecretStr(SECRETS["secret"])
    assert (copy.api_keys, copy.port) == ((parse_api_key("sk-hunter2:alice"),), 1)


def test_each_setting_that_can_be_a_secret_is_one() -> None:
    named = {name for name in Settings.model_fields if name.endswith(("secret", "api_key", "redis_url"))}
    plain = load_settings().model_copy(update=dict.fromkeys(named, "hunter2"))

    assert {type(getattr(plain, name)) for name in named} == {SecretStr}


def test_an_error_of_the_settings_does_not_show_what_was_read() -> None:
    with pytest.raises(ValidationError) as wrong:
        Settings.model_validate({**SECRETS, "providers": {"a": {"api_key": "sk-hunter2"}}, "lease_s": "hunter2"})

    assert "hunter2" not in f"{wrong.value!r} {wrong.value}"


@pytest.mark.parametrize(
    "address",
    [
        "redis://127.0.0.1",
        "redis://:p%2Fw@127.0.0.1:6379/3",
        "rediss://user:pw@redis.example:6380/0?ssl_ca_certs=/etc/ca.pem",
        "unix://:pw@/run/valkey.sock?db=3",
        "redis://[::1]:6379",
    ],
)
def test_an_address_of_redis_is_taken_as_it_is(address: str) -> None:
    assert load_settings(redis_url=address).redis_url == SecretStr(address)


def test_an_api_key_in_tailrace_toml_is_a_text(toml: Path) -> None:
    toml.write_text('api_keys = [{key = "hunter2", tenant = "a b"}]\n')

    with pytest.raises(StartupError, match=r"TAILRACE_API_KEYS\[0\]") as refusal:
        load_settings()

    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize("value", ["0", "-1", "1024"])
def test_a_ceiling_that_holds_no_body_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TAILRACE_MAX_MEMORY", value)

    with pytest.raises(StartupError, match=r"TAILRACE_MAX_MEMORY: .*16777216"):
        load_settings()


def test_a_path_prefix_is_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_PATH_PREFIX", "/llm")
    assert load_settings().path_prefix == "/llm"

    monkeypatch.setenv("TAILRACE_PATH_PREFIX", "llm/")
    with pytest.raises(StartupError, match=r"TAILRACE_PATH_PREFIX.*begins with /"):
        load_settings()
