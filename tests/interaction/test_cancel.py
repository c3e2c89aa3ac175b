"""Cancel a job in every phase and by every route: the order reaches the provider's socket; the job has a proven end."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shared.config.settings import Settings
from shared.model.errors import Cancelled
from shared.model.events import EventType
from shared.model.lifecycle import State
from shared.process.embedded_valkey import EmbeddedValkey
from shared.store.executions import Executions
from shared.store.jobs import EMPTY_SHA256, JobRecords
from shared.store.wire.answers import StopReason
from tests.support.client import Client
from tests.support.controlled_provider import ControlledProvider
from tests.support.core import RETENTION_S, TIMEOUT_S, captured_logs, fresh_job_id
from tests.support.gateway import running_gateway
from tests.support.system import System, Unheard, ask, running_system, running_worker
from tests.support.upstream import Upstream, running_upstream
from tests.support.upstream import ask as scripted
from tests.support.valkey import running_valkey
from worker.execution.runs import Runs

ON_REQUEST = {
    "type": "job_error",
    "code": "cancelled",
    "message": "The job was cancelled on request.",
    "retryable": False,
}


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """Provide a real socket to close."""
    async with running_upstream() as opened:
        yield opened


@pytest.fixture
def settings(settings: Settings, upstream: Upstream) -> Settings:
    """Make settings for a worker of that upstream; no beat and no time-out can replace an order."""
    long_waits = {"lease_s": 300.0, "first_token_timeout_s": 300.0, "gap_timeout_s": 300.0}
    return settings.model_copy(update={"upstream_url": upstream.base_url, **long_waits})


@pytest.fixture
async def system(settings: Settings) -> AsyncIterator[System]:
    """Start a gateway on this test's keys."""
    async with running_system(settings) as opened:
        yield opened


@pytest.fixture
async def own_valkey(tmp_path: Path) -> AsyncIterator[EmbeddedValkey]:
    """Start a server for this test alone."""
    async with running_valkey(tmp_path / "own-valkey") as valkey:
        yield valkey


async def cancel_unheard(system: System, job_id: str) -> str:
    """Cancel, but the order to the worker is lost."""
    store = JobRecords(system.core.client, Unheard(system.settings.key_prefix), retention_s=RETENTION_S)
    return await store.cancel(job_id, Cancelled.because("cancelled"))


# In every phase.


@pytest.mark.parametrize("fault", ["hang", "stall"])
async def test_before_the_first_token(system: System, upstream: Upstream, fault: str) -> None:
    """`hang`: not even headers have come; `stall`: a stream without a token."""
    async with running_worker(system.settings):
        job_id = await system.submit(scripted(fault=fault))
        await upstream.until(lambda: any(seen.silent for seen in upstream.requests))
        shown = await system.cancel(job_id)
        await upstream.until(lambda: upstream.closed == 1 and upstream.sockets == 0)
        story = await system.story(job_id)

    assert story.types == ["queued", "started", "cancelled"]
    assert story.end["error"] == ON_REQUEST
    assert story.end["usage"] is None
    assert (shown["status"], shown["events"], shown["sha256"]) == ("cancelled", 3, EMPTY_SHA256)
    assert await system.queue_keys(job_id) == []


async def test_a_running_job_is_cancelled_in_mid_token(system: System, upstream: Upstream) -> None:
    async with running_worker(system.settings):
        job_id = await system.submit(scripted(tokens=1_000_000, rate=200))
        await system.until(job_id, EventType.DELTA, count=5)
        shown = await system.cancel(job_id)
        await upstream.until(lambda: upstream.closed == 1 and upstream.sockets == 0)
        story = await system.story(job_id)

    assert story.types[-1] == "cancelled"
    assert len(story.deltas) >= 5
    assert story.end["usage"]["completion_tokens"] == len(story.deltas)
    assert story.end["usage"]["source"] == "partial"
    assert (shown["status"], shown["events"]) == ("cancelled", len(story.events))


async def test_a_job_at_full_speed_is_cancelled_without_frames_after_its_end(
    system: System, upstream: Upstream
) -> None:
    """Frames arrive all the time: the logged ones count, and nothing follows the end."""
    async with running_worker(system.settings):
        for _ in range(5):
            job_id = await system.submit(scripted(tokens=1_000_000))
            await system.until(job_id, EventType.DELTA)
            await system.cancel(job_id)
            assert (await system.story(job_id)).types[-1] == "cancelled"
        await upstream.until(lambda: upstream.closed == 5 and upstream.sockets == 0)


async def test_a_waiting_job_is_cancelled(system: System) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings.model_copy(update={"worker_slots": 1}), provider):
        running = await system.submit(model="running")
        await provider.call_for("running")
        waiting = await system.submit(model="waiting")
        shown = await system.cancel(waiting)
        story = await system.story(waiting)
        assert await system.queue_keys(waiting) == []
        (await provider.call_for("running")).end()
        assert (await system.story(running)).types[-1] == "completed"
        await system.submit(model="last")
        await provider.call_for("last")

    assert shown["status"] == "cancelled"
    assert (story.types, story.end["error"]) == (["queued", "cancelled"], ON_REQUEST)
    assert [call.model for call in provider.calls] == ["running", "last"]


async def test_between_its_begin_and_its_first_request(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, ordered = asyncio.Event(), asyncio.Event()
    begin, stop = Executions.begin, Runs.stop

    async def slow_begin(*args: Any, **options: Any) -> Any:
        execution = await begin(*args, **options)
        begun.set()
        await ordered.wait()
        return execution

    def stop_and_tell(runs: Runs, job_id: str, reason: StopReason) -> None:
        stop(runs, job_id, reason)
        ordered.set()

    monkeypatch.setattr(Executions, "begin", slow_begin)
    monkeypatch.setattr(Runs, "stop", stop_and_tell)
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        job_id = await system.submit()
        await asyncio.wait_for(begun.wait(), TIMEOUT_S)
        shown = await system.cancel(job_id)
        story = await system.story(job_id)

    assert shown["status"] == "cancelled"
    assert (story.types, story.code) == (["queued", "started", "cancelled"], "cancelled")
    # The execution itself wrote the end, not another process in its place.
    assert str(story.events[-1].id) == "1-2"
    assert provider.calls == []


async def test_a_finished_job_stays_as_it_is(system: System) -> None:
    async with running_worker(system.settings, ControlledProvider(on_call=lambda call: call.end())):
        job_id = await system.submit()
        before = await system.story(job_id)
        shown = await system.cancel(job_id)

    assert shown["status"] == "completed"
    assert (await system.story(job_id)).events == before.events


async def test_cancelling_again_changes_nothing(system: System, upstream: Upstream) -> None:
    async with running_worker(system.settings):
        job_id = await system.submit(scripted(fault="stall", tokens=5, after=2))
        await system.until(job_id, EventType.DELTA, count=2)
        shown = [await system.cancel(job_id) for _ in range(3)]
        story = await system.story(job_id)

    assert shown[0] == {**shown[1], "links": shown[0]["links"]}
    assert shown[1] == {**shown[2], "links": shown[1]["links"]}
    assert story.types == ["queued", "started", "delta", "delta", "cancelled"]


async def test_an_unknown_job_can_not_be_cancelled_and_may_come_later(system: System) -> None:
    job_id = fresh_job_id()
    answer = await system.client.post(f"/v1/jobs/{job_id}/cancel")
    assert answer.status == 404
    assert answer.json()["code"] == "job_not_found"
    # Nothing of it is left that would end a job of this id.
    assert [key async for key in system.core.client.scan_iter(f"*{job_id}*")] == []


async def test_a_cancelled_job_is_not_run_again_when_it_is_taken_again(system: System) -> None:
    job_id = await system.submit()
    assert await system.core.cancel(job_id) == "cancelled"
    assert await system.queue_keys(job_id) == ["lane", "active", "message"]
    provider = ControlledProvider(on_call=lambda call: call.end())
    async with running_worker(system.settings.model_copy(update={"worker_slots": 1}), provider):
        await system.story(await system.submit(model="next"))

    assert [call.model for call in provider.calls] == ["next"]
    assert await system.queue_keys(job_id) == []
    assert (await system.story(job_id)).types == ["queued", "cancelled"]


# While the pump pushes back.


async def test_a_job_with_a_blocked_pump_is_cancelled(
    settings: Settings, upstream: Upstream, own_valkey: EmbeddedValkey
) -> None:
    """A server without room takes no tokens, but it takes an end."""
    own = settings.model_copy(update={"redis_url": own_valkey.url, "pump_bytes": 4096})
    async with running_system(own) as system, running_worker(own):
        job_id = await system.submit(scripted(tokens=1_000_000))
        await system.until(job_id, EventType.DELTA)
        with captured_logs() as logs:
            await system.core.client.config_set("maxmemory", "1")
            await logs.wait_for("pump.busy")
            shown = await system.cancel(job_id)
        await upstream.until(lambda: upstream.closed == 1)
        story = await system.story(job_id)

    assert shown["status"] == "cancelled"
    assert story.types[-1] == "cancelled"


# From everywhere.


async def test_a_job_is_cancelled_through_another_gateway(system: System, upstream: Upstream) -> None:
    async with running_gateway(system.settings) as other, running_worker(system.settings):
        job_id = await system.submit(scripted(tokens=9, fault="stall", after=3))
        await system.until(job_id, EventType.DELTA, count=3)
        answer = await other.client.post(f"/v1/jobs/{job_id}/cancel")
        await upstream.until(lambda: upstream.closed == 1)
        story = await system.story(job_id)

    assert (answer.status, answer.json()["status"]) == (200, "cancelled")
    assert story.types == ["queued", "started", *["delta"] * 3, "cancelled"]


async def test_a_job_is_cancelled_after_a_restart_of_redis(
    settings: Settings, upstream: Upstream, own_valkey: EmbeddedValkey
) -> None:
    own = settings.model_copy(update={"redis_url": own_valkey.url})
    async with running_system(own) as system, running_worker(own):
        job_id = await system.submit(scripted(tokens=9, fault="stall", after=3))
        await system.until(job_id, EventType.DELTA, count=3)
        await own_valkey.stop()
        await own_valkey.start()
        assert await _status_under_load(system.client, job_id) in ("cancelling", "cancelled")
        await upstream.until(lambda: upstream.closed == 1)
        story = await system.story(job_id)

    assert story.types[-1] == "cancelled"
    assert len(story.deltas) == 3


async def _status_under_load(client: Client, job_id: str) -> str:
    """Ask again while the gateway has not found its Redis yet."""
    while (answer := await client.post(f"/v1/jobs/{job_id}/cancel")).status == 503:
        pass
    assert answer.status == 200, answer.body
    return str(answer.json()["status"])


# In every way to cancel.


async def test_a_lost_cancellation_is_found_at_the_next_append(system: System, upstream: Upstream) -> None:
    async with running_worker(system.settings):
        job_id = await system.submit(scripted(tokens=1_000_000, rate=100))
        await system.until(job_id, EventType.DELTA)
        assert await cancel_unheard(system, job_id) == "cancelling"
        await upstream.until(lambda: upstream.closed == 1)
        story = await system.story(job_id)

    assert story.types[-1] == "cancelled"


async def test_a_lost_cancellation_is_found_at_the_next_beat(system: System, upstream: Upstream) -> None:
    async with running_worker(system.settings.model_copy(update={"lease_s": 2.0})):
        job_id = await system.submit(scripted(fault="stall", tokens=3, after=1))
        await system.until(job_id, EventType.DELTA)
        assert await cancel_unheard(system, job_id) == "cancelling"
        await upstream.until(lambda: upstream.closed == 1)
        story = await system.story(job_id)

    assert story.types == ["queued", "started", "delta", "cancelled"]


async def test_an_order_is_asked_for_when_the_control_channel_returns(
    settings: Settings, upstream: Upstream, own_valkey: EmbeddedValkey
) -> None:
    own = settings.model_copy(update={"redis_url": own_valkey.url})
    async with running_system(own) as system, running_worker(own):
        job_id = await system.submit(scripted(fault="stall"))
        await upstream.until(lambda: any(seen.silent for seen in upstream.requests))
        assert await cancel_unheard(system, job_id) == "cancelling"
        await system.core.client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        await upstream.until(lambda: upstream.closed == 1)
        story = await system.story(job_id)

    assert story.types == ["queued", "started", "cancelled"]


async def test_a_job_cancelled_while_its_worker_was_dead_ends_when_it_is_taken(system: System) -> None:
    """Its worker died: no process can be notified."""
    job_id = await system.submit()
    execution = await system.core.begin(job_id, "dead.1")
    assert await system.core.cancel(job_id) == "cancelling"
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        story = await system.story(job_id)

    assert execution.epoch == 1
    assert (story.types, story.code) == (["queued", "started", "cancelled"], "cancelled")
    assert provider.calls == []
    assert (await system.job(job_id)).status is State.CANCELLED


async def test_a_job_that_was_cancelling_never_becomes_completed(system: System) -> None:
    """The order is lost, and the provider's answer is complete before the worker reads the record."""
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        job_id = await system.submit()
        call = await provider.call()
        call.say("whole")
        await system.until(job_id, EventType.DELTA)
        assert await cancel_unheard(system, job_id) == "cancelling"
        call.end()
        story = await system.story(job_id)

    assert story.types == ["queued", "started", "delta", "cancelled"]
    assert story.end["usage"]["source"] == "partial"


async def test_a_cancelled_job_without_a_request_ends_as_cancelled_and_not_failed(system: System) -> None:
    job_id = await system.submit()
    await system.core.begin(job_id, "dead.1")
    assert await system.core.cancel(job_id) == "cancelling"
    await system.core.client.delete(system.core.keys.job(job_id).request)
    async with running_worker(system.settings, ControlledProvider()):
        story = await system.story(job_id)

    assert (story.types, story.code) == (["queued", "started", "cancelled"], "cancelled")


async def test_malformed_control_messages_stop_no_job(system: System) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        job_id = await system.submit()
        call = await provider.call()
        for order in (b"", b"\xff\xfe", fresh_job_id().encode(), b"job"):
            assert await system.core.client.publish(system.core.keys.control, order) == 1
        call.end()
        assert (await system.story(job_id)).types[-1] == "completed"
        await system.submit(ask(model="after"))
        await provider.call_for("after")
