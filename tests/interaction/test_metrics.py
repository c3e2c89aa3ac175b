"""Serve `/metrics`: any gateway shows the counts of all processes, exactly, to the keys that may read them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from shared.config.settings import Settings
from shared.model.errors import ProviderRefused
from shared.model.events import EventType
from tests.support.client import TIMEOUT_S, Client
from tests.support.controlled_provider import ControlledProvider
from tests.support.core import frozen
from tests.support.gateway import running_gateway
from tests.support.processes import Processes
from tests.support.system import System, running_system, running_worker
from tests.support.valkey import running_valkey

METRICS = "/metrics"
USAGE = {"prompt_tokens": 7, "completion_tokens": 2}


class Series:
    """One scrape."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._samples = [sample for metric in read_text(text) for sample in metric.samples]

    def __call__(self, name: str, **labels: str) -> float:
        """Return the sum of all samples of this name, without its prefix, that have these labels."""
        found = [each for each in self._samples if each.name == f"tailrace_{name}"]
        return sum(each.value for each in found if labels.items() <= each.labels.items())

    @property
    def processes(self) -> set[str]:
        """Return the processes of the series."""
        return {each.labels["process"] for each in self._samples if "process" in each.labels}

    def roles(self) -> list[str]:
        """Return the roles of the processes."""
        return sorted(process.partition("-")[0] for process in self.processes)


async def scrape(client: Client) -> Series:
    answer = await client.as_("sk-root").get(METRICS)
    assert answer.status == 200, answer.body
    return Series(answer.body.decode())


@pytest.fixture
async def system(settings: Settings) -> AsyncIterator[System]:
    """Start a gateway on this test's keys."""
    async with running_system(settings) as opened:
        yield opened


# The counts.


async def test_jobs_that_complete_fail_and_are_cancelled_are_counted_exactly(system: System) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        for number in range(2):
            job_id = await system.submit()
            call = await provider.call(number)
            call.say("Hello", " there")
            # Deltas that are under way at the end would be written with it, in no append of their own.
            await system.until(job_id, EventType.DELTA, count=2)
            call.end(usage=USAGE)
            await system.story(job_id)
        job_id = await system.submit()
        (await provider.call(2)).fail(ProviderRefused("No.", code="rate_limit_exceeded"))
        await system.story(job_id)
        job_id = await system.submit()
        (await provider.call(3)).say("Hel")
        await system.until(job_id, EventType.DELTA)
        await system.cancel(job_id)
        await system.story(job_id)
    # The worker has published its last counts.
    series = await scrape(system.client)

    assert series.roles() == ["gateway", "worker"]
    assert series("jobs_submitted_total", lane="default") == 4
    assert series("jobs_ended_total") == 4
    assert series("jobs_ended_total", status="completed", code="") == 2
    assert series("jobs_ended_total", status="failed", code="rate_limit_exceeded") == 1
    assert series("jobs_ended_total", status="cancelled", code="cancelled") == 1
    assert series("provider_failures_total", provider="mock", code="rate_limit_exceeded") == 1
    assert (series("executions_total"), series("rollbacks_total")) == (4, 0)
    assert series("deltas_total", provider="mock") == 5
    assert series("tokens_total", type="completion") == 2 * 2 + 1
    assert series("first_token_seconds_count") == 3
    assert series("token_gap_seconds_count") == 2
    assert series("job_wait_seconds_count", lane="default") == 4
    assert 0 < series("job_wait_seconds_sum") < TIMEOUT_S
    assert series("append_seconds_count") >= 3
    assert series("pump_waiting_bytes") == 0
    assert (series("worker_slots"), series("worker_slots_in_use")) == (100, 0)
    assert all(series("redis_command_seconds_count", side=side) > 4 for side in ("queue", "jobs"))
    assert series("feed_connects_total") == 2


async def test_a_job_that_is_cancelled_before_a_worker_had_it_is_counted_by_its_gateway(system: System) -> None:
    job_id = await system.submit()
    await system.cancel(job_id)
    await system.cancel(job_id)
    series = await scrape(system.client)

    assert series("jobs_ended_total") == series("jobs_ended_total", status="cancelled", code="cancelled") == 1
    assert series("executions_total") == 0


async def test_a_job_that_starts_over_is_one_job_two_executions_and_a_rollback(system: System) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings, provider) as worker:
        job_id = await system.submit()
        (await provider.call()).say("Hel")
        await system.until(job_id, EventType.DELTA)
        worker.drain()
        worker.hurry()
        await worker.stopped()
    async with running_worker(system.settings, provider):
        call = await provider.call(1)
        call.say("Hello")
        call.end()
        await system.story(job_id)
    series = await scrape(system.client)

    assert series.roles() == ["gateway", "worker", "worker"]
    assert (series("executions_total"), series("rollbacks_total"), series("job_wait_seconds_count")) == (2, 1, 1)
    assert series("jobs_ended_total", status="completed") == series("jobs_submitted_total") == 1


async def test_a_repeated_idempotency_key_is_counted_as_one_job(system: System) -> None:
    for _ in range(2):
        body = {"model": "mock", "messages": [{"role": "user", "content": "Hello?"}]}
        await system.client.post("/v1/jobs", body, headers={"Idempotency-Key": "once"})

    assert (await scrape(system.client))("jobs_submitted_total") == 1


async def test_the_lane_metrics_count_waiting_jobs_and_the_age_of_the_oldest(system: System) -> None:
    before = await scrape(system.client)
    assert (before("lane_waiting_jobs", lane="default"), before("lane_oldest_age_seconds", lane="default")) == (0, 0)

    old, _ = await system.submit(), await system.submit()
    await system.core.client.zincrby(system.lane, -60_000, old)
    series = await scrape(system.client)

    assert series("lane_waiting_jobs", lane="default") == 2
    assert 60 <= series("lane_oldest_age_seconds", lane="default") < 60 + TIMEOUT_S


async def test_requests_are_counted_by_the_template_of_their_route(system: System) -> None:
    client = system.client
    for path in ("/v1/jobs/job_x", "/v1/jobs/job_y", "/nothing/here", "/v1/jobs"):
        await client.get(path)
    await client.request("TRACE", "/v1/jobs")
    series = await scrape(client)

    assert series("http_response_seconds_count", method="GET", route="/v1/jobs/{job_id}", status="4xx") == 2
    assert series("http_response_seconds_count", method="GET", route="none", status="4xx") == 1
    assert series("http_response_seconds_count", method="GET", route="/v1/jobs", status="2xx") == 1
    assert series("http_response_seconds_count", method="other", route="/v1/jobs", status="4xx") == 1


async def test_readers_are_counted_while_they_read_and_when_they_return(system: System) -> None:
    job_id = await system.submit()
    async with system.reading(job_id) as read:
        await read()
        assert (await scrape(system.client))("readers") == 1
    async with system.client.stream("GET", f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": "9-99"}) as response:
        assert b"event: gap" in await response.frame()
        series = await scrape(system.client)

    assert (series("reader_resumes_total"), series("gaps_total"), series("readers_frozen_total")) == (1, 1, 0)


async def test_nothing_of_a_caller_is_in_it(system: System) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        job_id = await system.submit(text="a secret prompt", model="a-model-of-alices")
        call = await provider.call()
        call.say("a secret answer")
        call.end()
        await system.story(job_id)
    text = (await scrape(system.client)).text

    assert "worker-" in text
    assert not [word for word in ("alice", "secret", job_id, job_id[4:], "a-model") if word in text]


# The processes of the series.


async def test_each_gateway_reports_all_processes_and_no_counter_decreases(system: System) -> None:
    async with running_gateway(system.settings) as other:
        for number in range(1, 4):
            await system.submit()
            # Scrapes of both gateways show the same counts.
            assert (await scrape(system.client))("jobs_submitted_total") == number
            assert (await scrape(other.client))("jobs_submitted_total") == number
        assert (await scrape(other.client)).roles() == ["gateway", "gateway"]


async def test_the_metrics_of_a_killed_worker_are_shown_until_they_expire(system: System, processes: Processes) -> None:
    worker = await processes.worker()
    async with asyncio.timeout(TIMEOUT_S):
        while not (series := await scrape(system.client))("worker_slots"):
            pass
    (name,) = (process for process in series.processes if process.startswith("worker-"))
    assert f"-{worker.pid}-" in name
    await worker.crash()
    assert name in (await scrape(system.client)).processes

    key = system.core.keys.metrics(name)
    assert 0 < await system.core.client.pttl(key) <= 15_000
    await system.core.client.pexpire(key, 1)
    async with asyncio.timeout(TIMEOUT_S):
        while name in (await scrape(system.client)).processes:
            pass


async def test_without_redis_a_gateway_reports_its_own_metrics_and_the_outage(
    settings: Settings, tmp_path: Path
) -> None:
    async with running_valkey(tmp_path) as valkey:
        own = settings.model_copy(update={"redis_url": valkey.url})
        async with running_gateway(own) as gateway, running_worker(own, ControlledProvider()):
            async with asyncio.timeout(TIMEOUT_S):
                while "worker" not in (series := await scrape(gateway.client)).roles():
                    pass
            assert series("redis_up") == 1
            await valkey.stop()
            series = await scrape(gateway.client)
            assert (series("redis_up"), series.roles()) == (0, ["gateway"])
            assert series("http_response_seconds_count", route="/metrics") >= 1
            assert "tailrace_lane_waiting_jobs{" not in series.text
            await valkey.start()
            async with asyncio.timeout(TIMEOUT_S):
                while not (await scrape(gateway.client))("redis_up"):
                    pass


async def test_a_redis_that_does_not_answer_holds_no_scrape_up(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.http.scrape._TIMEOUT_S", 0.05)
    async with running_valkey(tmp_path) as valkey:
        own = settings.model_copy(update={"redis_url": valkey.url})
        async with running_gateway(own) as gateway:
            with frozen(valkey):
                series = await scrape(gateway.client)
    assert (series("redis_up"), series.roles()) == (0, ["gateway"])


async def test_a_draining_gateway_still_serves_metrics_and_reports_its_drain(system: System) -> None:
    assert (await scrape(system.client))("draining") == 0
    system.gateway.services.draining = True
    assert (await scrape(system.client))("draining") == 1


# Access and format.


@pytest.mark.parametrize(("key", "status", "code"), [(None, 401, "invalid_api_key"), ("sk-alice", 403, "forbidden")])
async def test_with_keys_configured_only_an_admin_key_may_read_it(
    client: Client, key: str | None, status: int, code: str
) -> None:
    answer = await client.as_(key).get(METRICS)

    assert (answer.status, answer.json()["code"]) == (status, code)
    assert b"tailrace_" not in answer.body
    assert (await client.as_("sk-root").get(METRICS)).status == 200


async def test_metrics_need_no_key_if_the_setting_opens_them(settings: Settings) -> None:
    async with running_gateway(settings.model_copy(update={"metrics_open": True})) as gateway:
        assert (await gateway.client.as_(None).get(METRICS)).status == 200


@pytest.mark.parametrize(("is_open", "status"), [(None, 200), (False, 401)])
async def test_metrics_are_open_without_keys_unless_the_setting_closes_them(
    processes: Processes, is_open: bool | None, status: int
) -> None:
    changes: dict[str, Any] = {"api_keys": (), "metrics_open": is_open}
    gateway = await processes.gateway(**changes)
    client = Client(int(gateway.url.rpartition(":")[2]), None)

    assert (await client.get(METRICS)).status == status


async def test_prometheus_gets_openmetrics_on_request(client: Client) -> None:
    answer = await client.as_("sk-root").get(METRICS, headers={"Accept": "application/openmetrics-text;version=1.0.0"})

    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0; charset=utf-8")
    names = {metric.name for metric in read_openmetrics(answer.body.decode())}  # type: ignore[no-untyped-call]
    assert {"tailrace_redis_up", "tailrace_jobs_submitted", "tailrace_http_response_seconds"} <= names


async def test_a_request_without_a_format_gets_plain_text(client: Client) -> None:
    answer = await client.as_("sk-root").get(METRICS)

    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert int(answer.headers["content-length"]) == len(answer.body)


async def test_no_process_publishes_metrics_if_they_are_off(settings: Settings) -> None:
    off = settings.model_copy(update={"metrics": False})
    async with running_system(off) as system:
        async with running_worker(off, ControlledProvider(on_call=lambda call: call.end())):
            await system.story(await system.submit())
            answer = await system.client.as_("sk-root").get(METRICS)
        assert (answer.status, answer.json()["detail"]) == (
            404,
            "Metrics are disabled: TAILRACE_METRICS is false.",
        )
        assert not await system.core.client.exists(system.core.keys.processes)
