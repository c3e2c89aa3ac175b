"""Real processes for all clients' tests, started once in a run: upstream, gateways, workers."""

import asyncio
import secrets
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from shared.config.settings import load_settings
from tests.clients.browser import CHROMIUM, Visitor, running_chromium, visiting
from tests.clients.commands import Tailrace
from tests.clients.sdk import Sdk, client_of
from tests.clients.system import KEY, ObservedUpstream, System
from tests.support.processes import Processes
from tests.support.valkey import fresh_prefix

GRACE_S = 0.5
JS = Path(__file__).parent / "js"
INSTALL_S = 100.0
UPSTREAM_S = 3600
"""An upstream that is left behind ends itself, but not before the last test, however slow the machine is."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test that uses npm's packages the time of their installation too: the first one waits for it."""
    for item in items:
        if isinstance(item, pytest.Function) and "js" in item.fixturenames:
            item.add_marker(pytest.mark.timeout(60 + INSTALL_S))


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def processes(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Processes]:
    """Start the processes of this package's systems; keyword arguments are settings."""
    settings = load_settings(
        max_attempts=1,  # these tests cover a failure's report to clients; the workers' tests cover its consequences
        redis_url=redis_url,
        api_keys=(f"{KEY}:alice", "sk-bob:bob", "sk-root:root:admin"),
        secret="a secret for tests only",
        lease_s=2.0,
        drain_s=1.0,
        disconnect_grace_s=GRACE_S,
        heartbeat_s=1.0,
        data_dir=str(tmp_path_factory.mktemp("data")),
        log_level="warning",
    )
    async with Processes(settings) as started:
        yield started


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def upstream(processes: Processes) -> ObservedUpstream:
    """Return the upstream of all systems."""
    return ObservedUpstream(await processes.upstream("--for", str(UPSTREAM_S)))


@pytest.fixture(scope="package")
def main_prefix() -> str:
    """Return the key prefix of `system`: another gateway with it serves the same jobs."""
    return fresh_prefix()


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def system(processes: Processes, upstream: ObservedUpstream, main_prefix: str) -> System:
    """Start a gateway and a worker that serve each model of the upstream."""
    gateway, _ = await asyncio.gather(
        processes.gateway(key_prefix=main_prefix),
        processes.worker(key_prefix=main_prefix, upstream_url=upstream.base_url),
    )
    return System(gateway.url, upstream)


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def hasty(processes: Processes, system: System, main_prefix: str) -> System:
    """`system` through a gateway that sends its headers at once, and heartbeats all the time."""
    gateway = await processes.gateway(key_prefix=main_prefix, headers_hold_s=0.01, heartbeat_s=0.05)
    return System(gateway.url, system.upstream)


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def short_timeouts(processes: Processes, upstream: ObservedUpstream) -> System:
    """Gateway and worker; the upstream may be silent for half a second only."""
    prefix = fresh_prefix()
    gateway, _ = await asyncio.gather(
        processes.gateway(key_prefix=prefix),
        processes.worker(
            key_prefix=prefix, upstream_url=upstream.base_url, first_token_timeout_s=0.5, gap_timeout_s=0.5
        ),
    )
    return System(gateway.url, upstream)


@pytest.fixture
def model() -> str:
    """Return a model's name that only this test uses."""
    return f"model-{secrets.token_hex(4)}"


@pytest.fixture(scope="package")
def js(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the programs of `js/` and the packages that they need."""
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    folder = tmp_path_factory.mktemp("js")
    shutil.copytree(JS, folder, dirs_exist_ok=True)
    options = ("--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--loglevel=error")
    npm = ("npm", "install", *options)
    done = subprocess.run(npm, check=False, cwd=folder, capture_output=True, text=True, timeout=INSTALL_S)
    if done.returncode:
        pytest.skip(f"npm can't install the packages here: {done.stderr.strip()[-200:]}")
    return folder


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def browser() -> AsyncIterator[Browser]:
    """Start a headless Chromium."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    async with running_chromium() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="package")
async def visitor(browser: Browser) -> AsyncIterator[Visitor]:
    """Open a fresh browser profile. A complaint of its browser that the test did not provoke fails the test."""
    async with visiting(browser) as somebody:
        yield somebody
    assert somebody.complaints == []


@pytest.fixture
def tailrace(system: System) -> Tailrace:
    """Alice's command line."""
    return Tailrace(system.url)


@pytest.fixture(scope="package", params=["OpenAI", "AsyncOpenAI"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which of the two clients."""
    return str(request.param)


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def sdk(kind: str, system: System) -> AsyncIterator[Sdk]:
    """Open the client with its defaults."""
    async with client_of(kind, system) as opened:
        yield opened


@pytest.fixture
def once(sdk: Sdk) -> Sdk:
    """Return the same client; a failed request is not sent again."""
    return sdk.with_options(max_retries=0)


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def hasty_sdk(kind: str, hasty: System) -> AsyncIterator[Sdk]:
    """Open a client that gets headers and heartbeats before there is anything to say."""
    async with client_of(kind, hasty) as opened:
        yield opened


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def short_timeout_sdk(kind: str, short_timeouts: System) -> AsyncIterator[Sdk]:
    """Open a client of the system that gives a silent upstream up; a failed request is not sent again."""
    async with client_of(kind, short_timeouts, max_retries=0) as opened:
        yield opened
