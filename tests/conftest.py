"""Provide the fixtures of every test: a Redis, a key prefix of its own, and settings that read no environment.

Each process of a run has a Redis of its own. tests/support/schedule.py distributes tests over processes.
"""

import gc
import os
import signal
from collections.abc import AsyncIterator, Generator, Iterator
from datetime import timedelta
from pathlib import Path

import hypothesis
import pytest
import pytest_asyncio

from shared.config.settings import Settings
from tests.support.processes import Processes
from tests.support.short_settings import short_settings
from tests.support.strict_loop import strict_loops
from tests.support.valkey import fresh_prefix, running_valkey


def pytest_configure(config: pytest.Config) -> None:
    """Let several processes share the tests as they should, bound the time of an example, and heed SIGINT."""
    # A shell's background job ignores it, and the processes that tests start and interrupt would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # An example of any test takes far less than Hypothesis' 0.2 s, but other tests keep the machine busy. The bound is
    # that of all waits; the health check on slow examples measures the machine too.
    hypothesis.settings.register_profile(
        "busy machine", deadline=timedelta(seconds=5), suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.load_profile("busy machine")
    if config.pluginmanager.has_plugin("xdist"):
        config.pluginmanager.import_plugin("tests.support.distribution")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect without looking for garbage: thousands of tests stay, and each look would go through all of them."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test, and no process that a test starts, reads the developer's environment or `tailrace.toml`."""
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.upper().startswith(("TAILRACE_", "OPENAI_")):
                patch.delenv(name)
        patch.chdir(tmp_path_factory.mktemp("cwd"))
        yield


@pytest.fixture(scope="session", autouse=True)
def strict_event_loops() -> Iterator[None]:
    """No test calls an event loop from a thread that is not the loop's."""
    with strict_loops():
        yield


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def redis_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Provide the URL of this process's Valkey."""
    async with running_valkey(tmp_path_factory.mktemp("valkey")) as valkey:
        yield valkey.url


@pytest.fixture
def key_prefix() -> str:
    """Return a prefix for this test's keys."""
    return fresh_prefix()


@pytest.fixture
def settings(redis_url: str, key_prefix: str, tmp_path: Path) -> Settings:
    """Return settings for a gateway or a worker in this process, with short times. Change one with `model_copy`."""
    return short_settings(redis_url, key_prefix, tmp_path / "data")


@pytest.fixture
async def processes(settings: Settings) -> AsyncIterator[Processes]:
    """Starts gateways, workers and upstreams as real processes, with this test's settings; they end with the test."""
    async with Processes(settings) as started:
        yield started
