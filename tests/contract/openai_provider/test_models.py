"""Test the list of an upstream's models."""

import pytest

from shared.model.errors import AttemptFailed, ProviderGarbage, ProviderRefused, ProviderTimeout
from tests.support.upstream import Upstream, running_upstream
from worker.upstream.providers import openai_compatible
from worker.upstream.providers.openai_compatible import OpenAICompatible


async def test_models_are_listed(provider: OpenAICompatible) -> None:
    assert await provider.models() == ["scripted"]
    assert provider.name == "mock"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"object": "list"}, ProviderGarbage),
        ([], ProviderGarbage),
        ("half a", ProviderGarbage),
    ],
)
async def test_a_list_of_models_that_is_none_is_called_garbage(
    upstream: Upstream, answer: object, error: type[AttemptFailed]
) -> None:
    upstream.models = answer
    provider = OpenAICompatible("mock", upstream.base_url)
    with pytest.raises(error):
        await provider.models()
    await provider.close()


async def test_models_without_a_name_are_left_out(upstream: Upstream, provider: OpenAICompatible) -> None:
    upstream.models = {"data": [{"id": "a"}, {"id": 5}, "b", {}, {"id": "c"}]}
    assert await provider.models() == ["a", "c"]


async def test_models_of_an_upstream_that_refuses_are_an_error() -> None:
    async with running_upstream(key="sk-right") as upstream:
        provider = OpenAICompatible("mock", upstream.base_url)
        with pytest.raises(ProviderRefused) as refused:
            await provider.models()
        assert refused.value.code == "upstream_auth"
        await provider.close()


async def test_models_of_an_upstream_that_is_silent_are_an_error(
    upstream: Upstream, provider: OpenAICompatible, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai_compatible, "MODELS_S", 0.05)
    upstream.models = None
    with pytest.raises(ProviderTimeout, match=r"did not list its models within 0\.05 s\.$"):
        await provider.models()
