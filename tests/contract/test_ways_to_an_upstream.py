"""Test redirects, proxies of the environment, and credentials in the address of an upstream."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from shared.model.errors import ProviderRefused, ProviderUnreachable, StartupError
from tests.support.core import captured_logs
from tests.support.upstream import TIMEOUT_S, Upstream, ask, running_upstream
from worker.upstream.providers.http_client import is_loopback
from worker.upstream.providers.openai_compatible import OpenAICompatible

ELSEWHERE = "http://model.invalid/v1"
NOWHERE = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the proxies of the environment: each test sets its own."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with running_upstream() as running:
        yield running


async def said(base_url: str, request: dict[str, object]) -> str:
    """Return the answer of the upstream at this address."""
    provider = OpenAICompatible("mock", base_url, "sk-ours")
    try:
        async with asyncio.timeout(TIMEOUT_S), provider.stream(request) as chunks:
            deltas = [delta async for chunk in chunks for delta in chunk.deltas]
        return "".join(delta.get("content", "") for delta in deltas)
    finally:
        await provider.close()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed_and_only_the_log_has_its_address(upstream: Upstream, status: int) -> None:
    async with running_upstream() as other:
        location = other.base_url.replace("http://", "http://user:secret@") + "/chat/completions?token=hidden"
        redirect = ask(http={"status": status, "headers": {"Location": location}})
        with captured_logs() as logs, pytest.raises(ProviderRefused) as refused:
            await said(upstream.base_url, redirect)

    assert str(refused.value) == f"The provider mock answered with {status}, a redirect: is its URL right?"
    assert (len(upstream.requests), other.requests) == (1, [])
    (line,) = logs.named("provider.redirected")
    assert other.base_url in line["words"]
    assert "secret" not in line["words"] and "hidden" not in line["words"]


async def test_a_redirect_to_a_malformed_address_is_refused_too(upstream: Upstream) -> None:
    with pytest.raises(ProviderRefused, match="a redirect"):
        await said(upstream.base_url, ask(http={"status": 307, "headers": {"Location": "http://[::"}}))


async def test_an_upstream_elsewhere_is_asked_through_the_proxy_of_the_environment(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", upstream.base_url.removesuffix("/v1"))

    assert await said(ELSEWHERE, ask(tokens=1))
    assert upstream.requests[0].headers["host"] == "model.invalid"


async def test_no_proxy_is_honoured(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", upstream.base_url.removesuffix("/v1"))
    monkeypatch.setenv("NO_PROXY", "model.invalid")

    with pytest.raises(ProviderUnreachable):
        await said(ELSEWHERE, ask(tokens=1))
    assert upstream.requests == []


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_an_upstream_on_this_machine_is_never_asked_through_a_proxy(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch, variable: str, host: str
) -> None:
    monkeypatch.setenv(variable, NOWHERE)

    assert await said(upstream.base_url.replace("127.0.0.1", host), ask(tokens=1))


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        *((host, True) for host in ("localhost", "LOCALHOST", "a.localhost", "127.0.0.1", "127.8.9.1", "::1", "[::1]")),
        *((host, False) for host in ("10.0.0.1", "localhost.example", "example.com", "::2", "")),
    ],
)
def test_the_machine_itself_is_known_by_its_names(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize("credentials", ["user:hunter2@", "hunter2@", ":hunter2@"])
def test_credentials_in_an_address_are_refused_in_one_sentence_without_them(credentials: str) -> None:
    with pytest.raises(StartupError) as refused:
        OpenAICompatible("mock", f"https://{credentials}api.example/v1")

    assert str(refused.value).startswith("The upstream's URL must not hold a user or a password")
    assert "hunter2" not in str(refused.value)


async def test_only_the_log_contains_the_address_of_a_failed_connection(upstream: Upstream) -> None:
    with captured_logs() as logs, pytest.raises(ProviderUnreachable) as failed:
        await said("http://127.0.0.1:1/v1", ask(tokens=1))

    assert str(failed.value) == "The connection to the provider mock failed."
    (line,) = logs.named("provider.unreachable")
    assert "127.0.0.1:1" in line["words"]
