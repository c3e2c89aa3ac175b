"""Test the choice of the providers that the settings name, by their protocols."""

from pathlib import Path
from typing import Any

import pytest

from shared.config.settings import Settings, load_settings
from shared.model.errors import StartupError
from shared.model.routes import Upstream
from worker.configured_providers import make_providers
from worker.upstream.providers.openai_compatible import OpenAICompatible
from worker.upstream.providers.protocols import BUILT_IN_PROTOCOLS, ProviderProtocol, required_url
from worker.upstream.providers.scripted import Scripted

URL = "https://api.openai.test/v1"


@pytest.fixture(autouse=True)
def _no_toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def named(**provider: Any) -> Settings:
    """Build settings with one provider, which is called p."""
    return load_settings(providers={"p": provider})


async def test_a_provider_without_a_protocol_has_openais() -> None:
    providers = make_providers(named(base_url=URL, api_key="sk-hunter2"))

    assert [(name, type(each), each.name) for name, each in providers.items()] == [("p", OpenAICompatible, "p")]
    await providers["p"].close()


async def test_the_upstream_at_an_address_has_openais_protocol() -> None:
    providers = make_providers(load_settings(upstream_url=URL))

    assert [(name, type(each)) for name, each in providers.items()] == [("upstream", OpenAICompatible)]
    await providers["upstream"].close()


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"upstream_url": "scripted:"}, "scripted"),
        ({"providers": {"p": {"protocol": "scripted"}}}, "p"),
        ({"providers": {"p": {"base_url": "scripted:"}}}, "p"),
        ({"providers": {"p": {"protocol": "scripted", "base_url": "scripted:"}}}, "p"),
    ],
)
def test_the_scripted_provider_is_chosen_by_its_protocol_or_by_its_address(settings: Any, name: str) -> None:
    (provider,) = make_providers(load_settings(**settings)).values()

    assert isinstance(provider, Scripted)
    assert provider.name == name


def test_a_protocol_that_a_composition_adds_opens_the_upstream_of_its_name() -> None:
    opened: list[Upstream] = []

    def spy(upstream: Upstream) -> Scripted:
        opened.append(upstream)
        return Scripted(upstream.name)

    settings = named(protocol="spied", base_url="spy://somewhere", api_key="sk-hunter2")
    make_providers(settings, BUILT_IN_PROTOCOLS.adding(ProviderProtocol("spied", spy)))

    assert opened == [settings.route_table().upstreams["p"]]
    assert (opened[0].base_url, opened[0].protocol) == ("spy://somewhere", "spied")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({}, r"^No upstream is configured: set TAILRACE_UPSTREAM_URL"),
        (
            {"providers": {"p": {"protocol": "openal", "base_url": URL}}},
            r"^TAILRACE_PROVIDERS\.p\.protocol must be one of: openai, scripted, addressed\.$",
        ),
        (
            {"providers": {"p": {"protocol": "addressed", "api_key": "sk-hunter2"}}},
            r"^TAILRACE_PROVIDERS\.p\.base_url is missing: the protocol addressed needs an address, like https://",
        ),
        (
            {"providers": {"p": {"protocol": "scripted", "base_url": URL}}},
            r"^TAILRACE_PROVIDERS\.p\.base_url must be left out: the protocol scripted has no address\.$",
        ),
        ({"providers": {"p": {"base_url": "ftp://host"}}}, r"must be like https://api\.openai\.com/v1\.$"),
    ],
)
def test_a_configuration_that_suits_no_protocol_is_refused_in_one_sentence(settings: Any, sentence: str) -> None:
    addressed = ProviderProtocol("addressed", lambda upstream: Scripted(required_url(upstream)))
    with pytest.raises(StartupError, match=sentence) as refused:
        make_providers(load_settings(**settings), BUILT_IN_PROTOCOLS.adding(addressed))

    assert "hunter2" not in str(refused.value)
