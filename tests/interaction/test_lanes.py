"""Share slots between lanes through gateway and workers: the next job, a lane's limit, and the keys that may use it."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shared.config.settings import Settings
from shared.model.events import EventType
from shared.store.keys import ARQ_JOB
from tests.support.controlled_provider import Call, ControlledProvider, controlled_upstream
from tests.support.core import TIMEOUT_S, captured_logs, make_spec
from tests.support.processes import START_S, Processes
from tests.support.system import System, ask, running_system, running_worker
from tests.support.valkey import running_valkey
from worker.dispatch import dispatcher

JOBS, CHAT = "/v1/jobs", "/v1/chat/completions"
WEIGHTS = {"high": 4, "default": 2, "low": 1}
WITHIN = 0.05


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Keys with and without a plan."""
    keys = ("sk-alice:alice", "sk-batch:alice:lanes=low", "sk-plain:alice:lanes=low+default")
    return settings.model_copy(update={"api_keys": keys})


@pytest.fixture
async def system(settings: Settings) -> AsyncIterator[System]:
    """Start a gateway on this test's keys."""
    async with running_system(settings) as opened:
        yield opened


@pytest.fixture
def no_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turn sweeps off: a waiting job without a wake-up waits for longer than any test does."""
    monkeypatch.setattr(dispatcher, "_SWEEP_S", 60.0)


def changed(system: System, **changes: Any) -> Settings:
    return system.settings.model_copy(update=changes)


async def backlog(system: System, counts: dict[str, int]) -> None:
    """Jobs that wait; the model of each is called like its lane."""
    for lane, count in counts.items():
        for _ in range(count):
            spec = make_spec(lane=lane, model=lane, request=json.dumps(ask(model=lane)).encode())
            await system.core.queue_admission.admit(spec, max_depth=10_000, retention_s=60)
            await system.core.store.create(spec, 1)
            await system.core.queue_admission.release(spec.id, lane)


def short() -> ControlledProvider:
    """Return a provider of answers without words."""
    return ControlledProvider(on_call=lambda call: call.end())


def assert_shared(served: list[str]) -> None:
    """By weight, to within 5 %, all along the way."""
    for count in range(70, len(served) + 1, 70):
        found = Counter(served[:count])
        for lane, weight in WEIGHTS.items():
            assert abs(found[lane] / count - weight / 7) <= WITHIN, (count, found)


# Shares.


class Fleet:
    """Workers' providers of answers without words, and their calls: (worker, lane) in order."""

    def __init__(self, calls: int) -> None:
        self.served: list[tuple[str, str]] = []
        self._calls = calls
        self._over = asyncio.Event()

    def ask(self, worker: str, call: Call) -> None:
        call.end()
        self.served.append((worker, call.model))
        if len(self.served) == self._calls:
            self._over.set()

    def provider(self, worker: str) -> ControlledProvider:
        return ControlledProvider(on_call=lambda call: self.ask(worker, call))

    async def over(self) -> None:
        """Wait for the last call: hundreds of jobs may take their time."""
        async with asyncio.timeout(START_S):
            await self._over.wait()


async def test_under_backlog_the_slots_are_shared_by_weight_in_each_worker_and_in_the_fleet(system: System) -> None:
    counts = {"high": 400, "default": 200, "low": 100}
    await backlog(system, counts)
    fleet = Fleet(700)
    settings = changed(system, worker_slots=5)
    async with (
        running_worker(settings, fleet.provider("one")),
        running_worker(settings, fleet.provider("other")),
    ):
        await fleet.over()

    assert Counter(lane for _, lane in fleet.served) == counts
    # Towards the end one lane or another has run dry.
    contested = fleet.served[:630]
    assert_shared([lane for _, lane in contested])
    for name in ("one", "other"):
        lanes = [lane for worker, lane in contested if worker == name]
        assert len(lanes) >= 70
        assert_shared(lanes)


async def test_a_worker_process_shares_its_slots_by_weight(system: System) -> None:
    await backlog(system, {"high": 80, "default": 80, "low": 80})
    fleet = Fleet(140)
    async with (
        controlled_upstream(lambda call: fleet.ask("it", call)) as (_, url),
        Processes(system.settings) as processes,
    ):
        await processes.worker(upstream_url=url, worker_slots=3)
        await fleet.over()

    assert_shared([lane for _, lane in fleet.served[:140]])


@pytest.mark.parametrize("lane", list(WEIGHTS))
async def test_a_lane_that_alone_has_jobs_has_all_slots(system: System, lane: str) -> None:
    provider = ControlledProvider()
    await backlog(system, {lane: 7})
    async with running_worker(changed(system, worker_slots=6), provider):
        await provider.until(lambda: len(provider.running) == 6)
        provider.calls[0].end()
        await provider.until(lambda: len(provider.calls) == 7)

    assert {call.model for call in provider.calls} == {lane}


async def test_a_high_job_takes_the_next_slot_before_any_waiting_job(system: System) -> None:
    provider = ControlledProvider()
    await backlog(system, {"default": 30, "low": 30})
    async with running_worker(changed(system, worker_slots=2), provider):
        for number in range(12):
            (await provider.call(number + 1)).end()
        await provider.until(lambda: len(provider.calls) == 14)
        assert "high" not in [call.model for call in provider.calls]
        high = await system.submit(model="high", lane="high")
        provider.calls[0].end()
        assert (await provider.call(14)).model == "high"
        provider.calls[14].end()
        assert (await system.story(high)).types[-1] == "completed"


async def test_a_job_in_any_lane_wakes_a_worker(system: System, no_sweeps: None) -> None:
    async with system.commands() as seen, running_worker(system.settings, short()):
        await seen(system.waiting)
        for lane in WEIGHTS:
            assert (await system.story(await system.submit(lane=lane))).types[-1] == "completed"


# Caps.


async def test_a_capped_lane_holds_no_slots_above_its_cap_and_blocks_no_other_lane(
    system: System, no_sweeps: None
) -> None:
    provider = ControlledProvider()
    await backlog(system, {"low": 5})
    settings = changed(system, worker_slots=4, lanes=("high:4", "default:2", "low:1:2"))
    async with running_worker(settings, provider):
        await provider.until(lambda: provider.running == ["low", "low"])
        await system.submit(model="default")
        await provider.until(lambda: Counter(provider.running) == {"low": 2, "default": 1})
        await system.core.client.delete(system.core.keys.wake_ups("low"))  # the wake-ups of those that still wait
        for number in range(3):
            next(call for call in provider.calls if call.model == "low" and not call.closed).end()
            await provider.until(lambda number=number: len(provider.calls) == number + 4)  # type: ignore[misc]
            assert Counter(provider.running) == {"low": 2, "default": 1}


async def test_a_capped_lane_is_served_by_other_workers_too(system: System) -> None:
    provider, other = ControlledProvider(), ControlledProvider()
    await backlog(system, {"default": 3, "low": 3})
    settings = changed(system, worker_slots=4, lanes=("default:2", "low:1:1"))
    async with running_worker(settings, provider):
        await provider.until(lambda: Counter(provider.running) == {"default": 3, "low": 1})
        async with running_worker(settings, other):
            await other.until(lambda: other.running == ["low"])
            assert Counter(provider.running) == {"default": 3, "low": 1}


async def test_a_worker_at_its_cap_keeps_no_ring_from_an_idle_one(
    settings: Settings, tmp_path: Path, no_sweeps: None
) -> None:
    provider, other = ControlledProvider(), ControlledProvider()
    # A server of its own, on which nothing else waits; a lease that does not end, since its end wakes too.
    changes = {"lanes": ("high:4", "default:2", "low:1:1"), "lease_s": 60.0}
    async with running_valkey(tmp_path) as own:
        settings = settings.model_copy(update={**changes, "redis_url": own.url})
        async with running_system(settings) as system, running_worker(settings, provider):
            await system.submit(model="low", lane="low")
            await provider.until(lambda: provider.running == ["low"])
            await workers_wait(system, 1)
            async with running_worker(settings, other):
                await workers_wait(system, 2)  # of two that wait, Redis serves the first
                await system.submit(model="low", lane="low")
                await other.until(lambda: other.running == ["low"])


async def workers_wait(system: System, count: int) -> None:
    """Wait until so many workers wait for a wake-up."""
    async with asyncio.timeout(TIMEOUT_S):
        while (await system.core.client.info("clients"))["blocked_clients"] != count:
            pass


# Plans.


async def test_a_key_may_use_the_lanes_of_its_plan_and_no_other(system: System) -> None:
    client = system.client.as_("sk-plain")
    assert (await client.post(JOBS, ask(lane="low"))).json()["lane"] == "low"
    assert (await client.post(JOBS, ask())).json()["lane"] == "default"
    assert (await system.client.as_("sk-batch").post(JOBS, ask())).json()["lane"] == "low"

    refused = await client.post(JOBS, ask(lane="high"))

    assert refused.status == 403
    assert refused.headers["content-type"] == "application/problem+json"
    problem = refused.json()
    assert (problem["code"], problem["param"]) == ("forbidden", "lane")
    assert problem["detail"] == "This key may not use the lane high; lane must be one of: low, default."
    assert await system.core.depth("high") == 0


async def test_a_lane_that_there_is_not_is_a_wrong_request(system: System) -> None:
    refused = await system.client.post(JOBS, ask(lane="express"))

    assert (refused.status, refused.json()["param"]) == (400, "lane")
    assert refused.json()["detail"] == "lane must be one of: high, default, low."


async def test_a_chat_call_names_its_lane_in_a_header(system: System) -> None:
    async with running_worker(system.settings, short()):
        answer = await system.client.post(CHAT, ask(), headers={"X-Tailrace-Lane": "high"})
    assert answer.status == 200, answer.body
    assert (await system.job(answer.headers["x-tailrace-job"])).lane == "high"

    refused = await system.client.as_("sk-batch").post(CHAT, ask(), headers={"x-tailrace-lane": "high"})

    assert refused.status == 403
    error = refused.json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "forbidden", "X-Tailrace-Lane")
    assert "must be one of: low." in error["message"]


# Places.


async def test_a_job_shows_its_position_in_its_own_lane(system: System) -> None:
    high = [await system.submit(lane="high") for _ in range(3)]
    low = await system.submit(lane="low")

    assert (await system.until(low, EventType.QUEUED))[0].json() == {"job": low, "lane": "low", "position": 1}
    assert (await system.until(high[2], EventType.QUEUED))[0].json()["position"] == 3
    assert (await system.client.get(f"{JOBS}/{low}")).json()["position"] == 1


async def test_a_full_lane_leaves_the_others_open(settings: Settings) -> None:
    async with running_system(settings.model_copy(update={"max_depth": 2, "max_waiting_per_tenant": 9})) as system:
        for _ in range(2):
            await system.submit(lane="low")
        full = await system.client.post(JOBS, ask(lane="low"))
        assert (full.status, full.json()["code"]) == (429, "queue_full")
        await system.submit(lane="high")


# Lanes that are not configured (any more).


async def test_a_job_in_an_unknown_lane_is_found_and_run_with_one_log_line(settings: Settings, no_sweeps: None) -> None:
    old = settings.model_copy(update={"lanes": ("default:2", "old:1")})
    async with running_system(old) as system, running_worker(settings, short()):
        with captured_logs() as logs:
            stray = await system.submit(lane="old")
            await system.check_next(stray)
            assert (await system.story(stray)).types == ["queued", "started", "completed"]
            # From now on it is a lane like the others.
            assert (await system.story(await system.submit(lane="old"))).types[-1] == "completed"

        assert [event["lane"] for event in logs.named("dispatcher.lane_not_configured")] == ["old"]
        assert await system.core.depth("old") == 0


async def test_an_unreadable_job_in_a_removed_lane_is_ended(settings: Settings) -> None:
    old = settings.model_copy(update={"lanes": ("default:2", "old:1")})
    async with running_system(old) as system, system.commands() as command, running_worker(settings, short()):
        stray = await system.submit(lane="old")
        await system.write(stray, v=99)
        await system.check_next(stray)
        await command(f"DEL {ARQ_JOB}{stray}")

        assert await system.core.story(stray) == ["0-1 queued", "1-1 failed"]


async def test_a_job_in_a_lane_that_no_worker_serves_expires(settings: Settings) -> None:
    """All slots are taken, so that finding its lane does not help it."""
    old = settings.model_copy(update={"lanes": ("default:2", "old:1")})
    provider = ControlledProvider()
    async with running_system(old) as system, running_worker(settings.model_copy(update={"worker_slots": 1}), provider):
        await system.submit()
        await provider.call()
        story = await system.story(await system.submit(lane="old", timeout_s=0.3))
        assert (story.types, story.code) == (["queued", "expired"], "deadline_passed")
        assert await system.core.depth("old") == 0


async def test_a_worker_with_lanes_of_its_own_leaves_the_others_to_another_worker(system: System) -> None:
    long_work, rest = (ControlledProvider(on_call=lambda call: call.end()) for _ in range(2))
    async with running_worker(changed(system, worker_lanes=("low",)), long_work) as worker:
        await backlog(system, {"high": 1, "default": 1, "low": 2})
        await long_work.call(1)
        worker.drain()
        await worker.stopped()
        assert [call.model for call in long_work.calls] == ["low", "low"]
        async with running_worker(changed(system, worker_lanes=("high", "default")), rest):
            await rest.call(1)

    assert sorted(call.model for call in rest.calls) == ["default", "high"]
