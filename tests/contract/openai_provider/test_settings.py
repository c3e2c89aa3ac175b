"""Test the settings of a provider: its address and key are checked at the start, and nothing else is sent."""

import pytest

from shared.model.errors import StartupError
from tests.contract.openai_provider.reading import read
from tests.support.upstream import Upstream, ask
from worker.upstream.providers.openai_compatible import OpenAICompatible


async def test_credentials_come_only_from_the_settings(monkeypatch: pytest.MonkeyPatch, upstream: Upstream) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "from-the-environment")
    provider = OpenAICompatible("local", upstream.base_url)
    await read(provider, ask(tokens=1))
    await provider.close()
    assert "from-the-environment" not in upstream.requests[0].headers.values()


@pytest.mark.parametrize("url", ["", "localhost:8000/v1", "ftp://host/v1", "http://", "http://host:port/v1"])
def test_an_address_that_is_none_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(StartupError, match="must be like https://api"):
        OpenAICompatible("mock", url)


@pytest.mark.parametrize("key", ["sk-\n", "sk-é", "sk-\x7f"])
def test_a_key_that_can_be_none_is_refused_at_the_start(key: str) -> None:
    with pytest.raises(StartupError, match="printable ASCII") as refused:
        OpenAICompatible("mock", "http://host/v1", key)
    assert key not in str(refused.value)
