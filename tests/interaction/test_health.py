"""`/health`: alive says nothing about Redis, ready says everything."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from shared.config.settings import Settings
from shared.process.embedded_valkey import EmbeddedValkey
from shared.store.client import open_client
from tests.support.client import TIMEOUT_S, Answer, Client
from tests.support.gateway import Gateway, running_gateway, until
from tests.support.refusals import demoted
from tests.support.valkey import running_valkey

LIVE, READY = "/health/live", "/health/ready"


async def ready(client: Client) -> Answer:
    """Ask until the gateway is ready; then that answer."""
    async with asyncio.timeout(TIMEOUT_S):
        while (answer := await client.get(READY)).status != 200:
            pass
    return answer


@asynccontextmanager
async def private_gateway(settings: Settings, tmp_path: Path) -> AsyncIterator[tuple[EmbeddedValkey, Gateway]]:
    """Start a gateway with a Redis that the test may stop."""
    async with running_valkey(tmp_path) as valkey:
        own = settings.model_copy(update={"redis_url": valkey.url})
        async with running_gateway(own) as gateway:
            yield valkey, gateway


def check_unready(answer: Answer, code: str) -> None:
    assert answer.status == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["retry-after"] == "2"
    assert answer.json()["code"] == code


async def test_a_gateway_reports_that_it_is_alive_and_ready_without_a_key(client: Client) -> None:
    nobody = client.as_(None)
    assert (await ready(nobody)).json() == {"status": "ok"}
    answer = await nobody.get(LIVE)
    assert (answer.status, answer.json()) == (200, {"status": "ok"})


async def test_without_redis_a_gateway_is_alive_but_not_ready_until_it_is_back(
    settings: Settings, tmp_path: Path
) -> None:
    async with private_gateway(settings, tmp_path) as (valkey, gateway):
        await ready(gateway.client)
        await valkey.stop()
        check_unready(await gateway.client.get(READY), "redis_unavailable")
        assert (await gateway.client.get(LIVE)).status == 200
        await valkey.start()
        await ready(gateway.client)


async def test_a_redis_that_does_not_answer_is_as_good_as_away(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.api.ops._PING_S", 0.05)
    async with private_gateway(settings, tmp_path) as (valkey, gateway):
        await ready(gateway.client)
        assert valkey.pid is not None
        os.kill(valkey.pid, signal.SIGSTOP)
        try:
            check_unready(await gateway.client.get(READY), "redis_unavailable")
        finally:
            os.kill(valkey.pid, signal.SIGCONT)
        await ready(gateway.client)


async def test_a_gateway_whose_live_feed_has_no_connection_is_not_ready(gateway: Gateway) -> None:
    await until(lambda: gateway.services.hub.connected)
    gateway.services.hub._feed.lost_at = 0.0
    check_unready(await gateway.client.get(READY), "redis_unavailable")


async def test_a_draining_gateway_is_not_ready(gateway: Gateway) -> None:
    await ready(gateway.client)
    gateway.services.draining = True
    check_unready(await gateway.client.get(READY), "draining")
    assert (await gateway.client.get(LIVE)).status == 200


async def test_a_server_that_cannot_be_written_to_makes_a_gateway_unready(settings: Settings, tmp_path: Path) -> None:
    async with private_gateway(settings, tmp_path) as (valkey, gateway), open_client(valkey.url) as client:
        await ready(gateway.client)
        watch = gateway.services.watch
        async with demoted(client, valkey.url, tmp_path):
            await watch.check()
            answer = await gateway.client.get(READY)
            check_unready(answer, "redis_unavailable")
            assert answer.json()["detail"] == "This Redis is a replica, which can't be written to; name its primary."
        await watch.check()
        await ready(gateway.client)


async def test_a_server_that_may_lose_jobs_is_a_warning(settings: Settings, tmp_path: Path) -> None:
    async with private_gateway(settings, tmp_path) as (valkey, gateway), open_client(valkey.url) as client:
        await client.config_set("maxmemory-policy", "volatile-lru")
        await gateway.services.watch.check()

        answer = await ready(gateway.client)

    assert answer.json()["status"] == "ok"
    assert [sentence.split(",")[0] for sentence in answer.json()["warnings"]] == [
        "This Redis has maxmemory-policy volatile-lru"
    ]
