"""Test the parts of a gateway on a real server: built from the settings, run, and released whatever ends them.

The application that is made of them is tested in tests/unit/gateway/test_app.py.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from pydantic import SecretStr

from gateway.app import running
from shared.config.settings import Settings
from shared.model.errors import RedisUnavailable, StartupError, TooManyStreams
from tests.support.core import TIMEOUT_S, Core
from tests.support.ports import reserve_port


async def connections(core: Core) -> set[str]:
    """Return the ids of all connections that the server has."""
    return {each["id"] for each in await core.client.client_list()}


@asynccontextmanager
async def all_released(core: Core) -> AsyncIterator[None]:
    """Check that no connection that is opened in this block outlives it; the server notices an end a little later."""
    before = await connections(core)
    yield
    async with asyncio.timeout(TIMEOUT_S):
        while await connections(core) - before:
            pass


async def test_a_gateway_releases_its_connections_and_tasks_when_it_ends(settings: Settings, core: Core) -> None:
    before = await connections(core)

    async with all_released(core), running(settings) as services:
        assert len(await connections(core) - before) >= 3  # commands of both sides, and the live feed
        assert services.tasks
        assert not any(task.done() for task in services.tasks)

    assert all(task.done() for task in services.tasks)


async def test_a_gateway_that_fails_releases_them_too(settings: Settings, core: Core) -> None:
    async with all_released(core):
        with pytest.raises(ZeroDivisionError):
            async with running(settings) as services:
                raise ZeroDivisionError

    assert all(task.done() for task in services.tasks)


async def test_a_gateway_does_not_start_without_an_address_of_redis(settings: Settings) -> None:
    with pytest.raises(StartupError, match="TAILRACE_REDIS_URL"):
        async with running(settings.model_copy(update={"redis_url": None})):
            pass


async def test_a_second_redis_that_does_not_answer_leaves_nothing_behind(settings: Settings, core: Core) -> None:
    away = SecretStr(f"redis://127.0.0.1:{reserve_port()}/0")

    async with all_released(core):
        with pytest.raises(RedisUnavailable, match=r"^Redis does not answer: .*[^.]\.$"):
            async with running(settings.model_copy(update={"stream_redis_url": away})):
                pass


@pytest.mark.parametrize("metrics", [True, False])
async def test_a_gateway_publishes_its_metrics_only_if_the_settings_want_them(
    settings: Settings, core: Core, metrics: bool
) -> None:
    async with running(settings.model_copy(update={"metrics": metrics})):
        pass

    assert bool(await core.client.exists(core.keys.processes)) is metrics


async def test_the_settings_reach_the_parts(settings: Settings) -> None:
    changes = {"max_streams_per_tenant": 3, "path_prefix": "/llm"}

    async with running(settings.model_copy(update=changes)) as services:
        assert services.links.address("/v1/jobs") == "/llm/v1/jobs"
        for _ in range(3):
            services.open_streams.enter({}, "alice")
        with pytest.raises(TooManyStreams):
            services.open_streams.enter({}, "alice")


async def test_gateways_without_a_configured_secret_share_one(settings: Settings) -> None:
    unset = settings.model_copy(update={"secret": None})

    async with running(unset) as first, running(unset) as second:
        assert first.links.secret == second.links.secret != ""
