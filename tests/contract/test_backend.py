"""Test the backend of a process: its connections, the checks of its servers, and the stores on them."""

import pytest
from pydantic import SecretStr

from shared.config.settings import Settings
from shared.model.errors import RedisUnavailable, StartupError
from shared.model.metrics import Metrics
from shared.process.embedded_valkey import EmbeddedValkey
from shared.store.backend import open_backend, open_connection
from shared.store.keys import Keys
from tests.support.core import Core, make_spec
from tests.support.ports import reserve_port


def at(settings: Settings, url: str | None, **changes: object) -> Settings:
    return settings.model_copy(update={"redis_url": None if url is None else SecretStr(url), **changes})


async def test_the_stores_use_the_prefix_and_one_server_if_there_is_one(settings: Settings) -> None:
    async with open_backend(settings, Metrics(), "worker") as backend:
        spec = make_spec()
        await backend.queue_admission.admit(spec, max_depth=10, retention_s=60)
        assert (await backend.store.create(spec, 1)).new

        assert backend.keys == Keys(settings.key_prefix)
        assert list(backend.servers) == ["queue", "jobs"]
        for client in backend.servers.values():
            assert await client.exists(backend.keys.job(spec.id).record, backend.keys.lane(spec.lane)) == 2


async def test_jobs_are_on_their_own_server_if_there_are_two(own_valkey: EmbeddedValkey, settings: Settings) -> None:
    settings = settings.model_copy(update={"stream_redis_url": SecretStr(own_valkey.url)})
    async with open_backend(settings, Metrics(), "worker") as backend:
        spec = make_spec()
        await backend.queue_admission.admit(spec, max_depth=10, retention_s=60)
        await backend.store.create(spec, 1)

        record, lane = backend.keys.job(spec.id).record, backend.keys.lane(spec.lane)
        assert [await backend.clients.queue.exists(key) for key in (record, lane)] == [0, 1]
        assert [await backend.clients.jobs.exists(key) for key in (record, lane)] == [1, 0]
        async with open_connection(settings, "jobs") as jobs, open_connection(settings, "queue") as queue:
            assert [await client.exists(record) for client in (jobs, queue)] == [1, 0]


async def test_commands_are_timed_by_their_server(settings: Settings) -> None:
    metrics = Metrics()
    async with open_backend(settings, metrics, "gateway") as backend:
        before = sum(metrics.command.of("jobs").numbers()[:-1])
        await backend.clients.jobs.ping()
        assert sum(metrics.command.of("jobs").numbers()[:-1]) == before + 1


async def test_all_connections_are_closed_at_the_end(
    settings: Settings, own_valkey: EmbeddedValkey, own_core: Core
) -> None:
    own = at(settings, own_valkey.url)
    async with open_backend(own, Metrics(), "worker"), open_connection(own, "jobs") as writer:
        await writer.ping()
        assert len(await own_core.client.client_list()) > 1

    assert len(await own_core.client.client_list()) == 1


@pytest.mark.parametrize("part", ["gateway", "worker"])
async def test_the_error_of_a_part_without_an_address_names_the_setting(settings: Settings, part: str) -> None:
    with pytest.raises(StartupError, match=f"TAILRACE_REDIS_URL is not set; .* a {part} does not."):
        async with open_backend(at(settings, None), Metrics(), part):
            pass


async def test_a_server_that_does_not_answer_is_unavailable(settings: Settings) -> None:
    with pytest.raises(RedisUnavailable):
        async with open_backend(at(settings, f"redis://127.0.0.1:{reserve_port()}"), Metrics(), "worker"):
            pass


async def test_an_unfit_server_is_refused(settings: Settings, own_valkey: EmbeddedValkey, own_core: Core) -> None:
    await own_core.client.config_set("maxmemory-policy", "allkeys-lru")

    with pytest.raises(StartupError, match="maxmemory-policy"):
        async with open_backend(at(settings, own_valkey.url), Metrics(), "worker"):
            pass


async def test_keys_of_arq_that_others_name_otherwise_are_refused(settings: Settings) -> None:
    async with open_backend(settings.model_copy(update={"arq_prefixed": True}), Metrics(), "worker"):
        pass

    with pytest.raises(StartupError, match="TAILRACE_ARQ_PREFIXED"):
        async with open_backend(settings, Metrics(), "worker"):
            pass
