"""Test that viewers which an outage of Redis kept from reporting still count."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shared.config.settings import Settings
from shared.model.jobs import VIEWER_LEASE_S
from shared.model.lifecycle import State
from shared.store.jobs import JobRecords
from shared.store.queue import Queue
from shared.store.server_check import RedisServer, server_of
from tests.interaction.abandonment.requests import native
from tests.interaction.abandonment.states import LONG_S, lease_passes, others_are_given_up, viewed_by
from tests.support.controlled_provider import ControlledProvider
from tests.support.core import captured_logs
from tests.support.system import System, running_system, running_worker
from tests.support.valkey import running_valkey


def aged(up_s: float) -> Any:
    """Return a function that describes a server that has been up for so long."""

    async def server(side: Queue | JobRecords) -> RedisServer:
        return replace(await server_of(side._client), up_s=up_s)

    return server


@pytest.mark.parametrize("up_s", [0.0, VIEWER_LEASE_S])
async def test_on_a_server_that_has_just_returned_viewers_first_have_a_lease(
    system: System, monkeypatch: pytest.MonkeyPatch, up_s: float
) -> None:
    for side in (Queue, JobRecords):
        monkeypatch.setattr(side, "server", aged(up_s))
    settings = system.settings.model_copy(update={"lease_s": 0.5})
    job_id = await system.submit(native())
    await system.write(job_id, abandon_at=1)
    await system.core.age(job_id, LONG_S)
    async with running_worker(settings, ControlledProvider()):
        await others_are_given_up(system)
        await system.check_next(job_id)
        await others_are_given_up(system)
        given_up = (await system.job(job_id)).status in (State.CANCELLING, State.CANCELLED)
    assert given_up is (up_s > 0)


async def test_viewers_that_an_outage_kept_from_reporting_still_count(settings: Settings, tmp_path: Path) -> None:
    async with running_valkey(tmp_path / "own-valkey") as valkey:
        own = settings.model_copy(update={"redis_url": valkey.url, "lease_s": 0.5, "redis_patience_s": 60.0})
        provider = ControlledProvider()
        async with running_system(own) as system, running_worker(own, provider):
            job_id = await system.submit(native())
            async with system.client.stream("GET", f"/v1/jobs/{job_id}/events"):
                await provider.call()
                await viewed_by(system, job_id, 1)
                with captured_logs() as logs:
                    await valkey.stop()
                    await logs.wait_for("reaper.redis_lost")
                    await valkey.start()
                    await logs.wait_for("reaper.redis_back")
                await lease_passes(system, job_id)
                await lease_passes(system, job_id)
                await others_are_given_up(system)
                assert (await system.job(job_id)).status is State.RUNNING
