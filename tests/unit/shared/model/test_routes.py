"""Test routes, and their form in the settings."""

import json
from typing import Any

import pytest
from pydantic import SecretStr

from shared.config.settings import Settings, load_settings
from shared.model.errors import ModelNotFound, StartupError
from shared.model.routes import (
    Continuation,
    DeveloperRole,
    EmbeddingEncoding,
    MaxTokensField,
    OnStreamFailure,
    RequestRules,
    RouteTarget,
    Upstream,
)

OPENAI: dict[str, Any] = {"base_url": "https://api.openai.test/v1", "api_key": "sk-hunter2"}
AZURE: dict[str, Any] = {"base_url": "https://azure.test/v1", "continuation": "prefix", "max_concurrency": 8}
PROVIDERS = {"openai": OPENAI, "azure": AZURE}


@pytest.fixture(autouse=True)
def _no_toml(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def configured(routes: dict[str, Any], **changes: Any) -> Settings:
    """Build settings with two providers and these routes."""
    return load_settings(**{"providers": PROVIDERS, "routes": routes, **changes})


# Routes without chains.


def test_one_upstream_serves_every_model() -> None:
    table = load_settings(
        upstream_url="http://u.test/v1", upstream_api_key="sk", upstream_continuation="prefill", max_attempts=5
    ).route_table()

    route = table.route("whatever")
    assert route.targets == (RouteTarget("upstream", first_token_s=120.0, gap_s=60.0),)
    assert (route.on_stream_failure, route.max_attempts) == (OnStreamFailure.CONTINUE, 5)
    assert table.upstreams == {
        "upstream": Upstream("upstream", "http://u.test/v1", SecretStr("sk"), Continuation.PREFILL)
    }
    assert (table.named, table.serves_any) == ((), True)


def test_one_upstream_serves_the_models_that_are_named() -> None:
    table = load_settings(upstream_url="http://u.test/v1", models="small,large").route_table()

    assert table.named == ("small", "large")
    with pytest.raises(ModelNotFound, match=r"'huge'. The models are: small, large\."):
        table.route("huge")


def test_the_scripted_provider_is_one_too() -> None:
    assert [*load_settings(upstream_url="scripted:").route_table().upstreams] == ["scripted"]


def test_the_route_table_is_empty_without_an_upstream() -> None:
    table = load_settings().route_table()

    assert (table.named, table.upstreams, table.serves_any) == ((), {}, False)


def test_the_requests_to_a_provider_are_written_as_openai_takes_them() -> None:
    for upstream in load_settings(providers=PROVIDERS).route_table().upstreams.values():
        assert upstream.rules == RequestRules()


def test_the_limits_of_a_provider_are_read_from_its_table(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {
        "streaming": False,
        "stream_usage": False,
        "embedding_encoding": "float",
        "max_tokens_field": "max_completion_tokens",
        "developer_role": "system",
        "pass_unknown": False,
    }
    monkeypatch.setenv("TAILRACE_PROVIDERS", json.dumps({"upstream": {**OPENAI, **said}}))

    assert load_settings().route_table().upstreams["upstream"].rules == RequestRules(
        streaming=False,
        stream_usage=False,
        embedding_encoding=EmbeddingEncoding.FLOAT,
        max_tokens_field=MaxTokensField.MAX_COMPLETION_TOKENS,
        developer_role=DeveloperRole.SYSTEM,
        pass_unknown=False,
    )


# Chains.


def test_a_chain_names_providers_models_and_time_outs_of_its_own() -> None:
    settings = configured(
        {
            "gpt-4o": {
                "chain": ["openai", {"provider": "azure", "model": "gpt-4o-eu", "first_token_timeout_s": 20}],
                "on_stream_failure": "rollback",
                "max_attempts": 4,
                "first_token_timeout_s": 30,
                "gap_timeout_s": 10,
                "attempt_timeout_s": 120,
            }
        }
    )
    table = settings.route_table()

    assert table.route("gpt-4o").targets == (
        RouteTarget("openai", 30, 10, 120),
        RouteTarget("azure", 20, 10, 120, "gpt-4o-eu"),
    )
    assert (table.route("gpt-4o").on_stream_failure, table.route("gpt-4o").max_attempts) == ("rollback", 4)
    assert table.upstreams["azure"] == Upstream("azure", AZURE["base_url"], None, Continuation.PREFIX, 8)
    assert settings.served_models == ("gpt-4o",)


def test_a_route_in_a_chain_puts_its_own_chain_there() -> None:
    table = configured(
        {
            "large": {"chain": ["openai", {"route": "small"}], "gap_timeout_s": 7},
            "small": {"chain": [{"provider": "azure", "model": "mini"}, "openai"], "gap_timeout_s": 3},
        }
    ).route_table()

    assert [(each.provider, each.model, each.gap_s) for each in table.route("large").targets] == [
        ("openai", None, 7),
        ("azure", "mini", 3),
        ("openai", None, 3),
    ]


def test_a_star_serves_every_model_without_a_route_of_its_own() -> None:
    settings = configured({"large": {"chain": ["openai"]}, "*": {"chain": ["azure"]}})
    table = settings.route_table()

    assert [each.provider for each in table.route("another").targets] == ["azure"]
    assert [each.provider for each in table.route("large").targets] == ["openai"]
    assert (table.named, table.serves_any, settings.served_models) == (("large",), True, ())


def test_providers_without_routes_are_one_chain_for_every_model() -> None:
    table = configured({}).route_table()

    assert [each.provider for each in table.route("any").targets] == ["openai", "azure"]


def test_tables_are_read_from_tailrace_toml(tmp_path: Any) -> None:
    (tmp_path / "tailrace.toml").write_text(
        '[providers.local]\nbase_url = "http://127.0.0.1:8000/v1"\ncontinuation = "continue_final_message"\n'
        '[routes."llama/3.1"]\nchain = [{ provider = "local", model = "llama" }]\n'
    )
    table = load_settings().route_table()

    assert table.route("llama/3.1").targets == (RouteTarget("local", 120.0, 60.0, model="llama"),)
    assert table.upstreams["local"].continuation is Continuation.CONTINUE_FINAL_MESSAGE


def test_tables_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_PROVIDERS", json.dumps(PROVIDERS))
    monkeypatch.setenv("OPENAI_BASE_URL", "http://not-this.test/v1")

    assert [*load_settings().route_table().upstreams] == ["openai", "azure"]


# Routes that are refused at start.


@pytest.mark.parametrize(
    ("routes", "sentence"),
    [
        (
            {"a": {"chain": ["openia"]}},
            r"TAILRACE_ROUTES: .*a\.chain\[0\] names the provider openia, which does not exist; choose one of: openai",
        ),
        (
            {"a": {"chain": ["azure", {"route": "b"}]}},
            r"a\.chain\[1\] names the route b, which does not exist; choose one of: a\.",
        ),
        ({"a": {"chain": [{"route": "a"}]}}, r"a\.chain contains a cycle of routes: a → a"),
        (
            {
                "a": {"chain": ["azure", {"route": "b"}]},
                "b": {"chain": [{"route": "c"}]},
                "c": {"chain": [{"route": "a"}]},
            },
            r"a → b → c → a",
        ),
        ({"a": {"chain": ["azure", {"route": "b"}]}, "b": {"chain": [{"route": "b"}]}}, r"b → b"),
        ({"a": {"chain": ["azure"] * 33}}, r"a\.chain must have at most 32 targets"),
        (
            {f"r{n}": {"chain": [{"route": f"r{n + 1}"}] * 2} for n in range(30)} | {"r30": {"chain": ["azure"]}},
            r"chain must have at most 32 targets",
        ),
        ({"a": {"chain": []}}, r"TAILRACE_ROUTES\.a\.chain: "),
        ({"a": {}}, r"TAILRACE_ROUTES\.a\.chain: Field required"),
        ({"a": {"chain": ["azure"], "gap_timeout_s": 0}}, r"TAILRACE_ROUTES\.a\.gap_timeout_s: .*greater than 0"),
        ({"a": {"chain": ["azure"], "attempt_timeout_s": -1}}, r"TAILRACE_ROUTES\.a\.attempt_timeout_s: "),
        (
            {"a": {"chain": ["azure", {"provider": "azure", "first_token_timeout_s": 0}]}},
            r"TAILRACE_ROUTES\.a\.chain\[1\]\.first_token_timeout_s: .*greater than 0",
        ),
        ({"a": {"chain": ["azure"], "on_stream_failure": "retry"}}, r"a\.on_stream_failure: .*'continue', 'rollback'"),
        ({"a": {"chain": ["azure"], "retries": 3}}, r"TAILRACE_ROUTES\.a\.retries: "),
        ({"a": {"chain": [{"model": "m"}]}}, r"a\.chain\[0\]: .*either a provider or a route"),
        ({"a": {"chain": [{"provider": "azure", "route": "a"}]}}, r"a\.chain\[0\]: .*either a provider or a route"),
        ({"a": {"chain": [{"route": "b", "model": "m"}]}, "b": {"chain": ["azure"]}}, r"name nothing but the route"),
        ({"a": {"chain": ["azure"], "max_attempts": 0}}, r"TAILRACE_ROUTES\.a\.max_attempts: "),
    ],
)
def test_a_chain_that_leads_nowhere_is_refused_by_its_key(routes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(StartupError, match=sentence) as refusal:
        configured(routes)

    assert "hunter2" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("providers", "sentence"),
    [
        ({"p": {}}, r"TAILRACE_PROVIDERS\.p: .*base_url is missing: the protocol openai needs an address"),
        ({"p": {"base_url": ""}}, r"TAILRACE_PROVIDERS\.p\.base_url: "),
        ({"p": {**OPENAI, "protocol": ""}}, r"TAILRACE_PROVIDERS\.p\.protocol: "),
        ({"p": {**OPENAI, "continuation": "resume"}}, r"TAILRACE_PROVIDERS\.p\.continuation: .*'none', 'prefill'"),
        ({"p": {**OPENAI, "max_concurrency": 0}}, r"TAILRACE_PROVIDERS\.p\.max_concurrency: "),
        ({"p": {**OPENAI, "streaming": "never"}}, r"TAILRACE_PROVIDERS\.p\.streaming: "),
        ({"p": {**OPENAI, "stream_usage": 5}}, r"TAILRACE_PROVIDERS\.p\.stream_usage: "),
        ({"p": {**OPENAI, "embedding_encoding": "int8"}}, r"p\.embedding_encoding: .*'base64' or 'float'"),
        (
            {"p": {**OPENAI, "max_tokens_field": "max"}},
            r"p\.max_tokens_field: .*'max_tokens' or 'max_completion_tokens'",
        ),
        ({"p": {**OPENAI, "developer_role": "user"}}, r"TAILRACE_PROVIDERS\.p\.developer_role: .*'system'"),
        ({"p": {**OPENAI, "pass_unknown": None}}, r"TAILRACE_PROVIDERS\.p\.pass_unknown: "),
        ({"p": {**OPENAI, "key": "sk-hunter2"}}, r"TAILRACE_PROVIDERS\.p\.key: "),
        ({"a/b": OPENAI}, r"TAILRACE_PROVIDERS: .*'a/b'"),
    ],
)
def test_a_provider_that_can_not_be_one_is_refused_by_its_key(providers: dict[str, Any], sentence: str) -> None:
    with pytest.raises(StartupError, match=sentence) as refusal:
        load_settings(providers=providers)

    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"upstream_url": "http://u.test/v1"}, r"TAILRACE_PROVIDERS: .*replace TAILRACE_UPSTREAM_URL"),
        ({"models": ("a",)}, r"TAILRACE_ROUTES: .*replace TAILRACE_MODELS"),
        ({"providers": {}}, r"TAILRACE_ROUTES: .*TAILRACE_PROVIDERS is not set"),
    ],
)
def test_settings_that_contradict_the_routes_are_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(StartupError, match=sentence):
        configured({"a": {"chain": ["azure"]}}, **changes)
