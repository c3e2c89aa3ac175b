"""Test that secrets in the settings stay hidden, and the addresses of Redis."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from shared.config.settings import Settings, load_settings
from shared.model.api_keys import parse_api_key
from shared.model.errors import StartupError

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


def test_an_error_of_the_settings_does_not_show_their_values() -> None:
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
