"""Test that a worker runs as many jobs as it has slots, and loses none of them."""

from contextlib import AbstractAsyncContextManager, AsyncExitStack

from shared.store.keys import ARQ_JOB
from tests.support.controlled_provider import Call, ControlledProvider
from tests.support.core import make_spec
from tests.support.system import System, running_worker

SOON_S = 0.3


async def test_no_more_jobs_run_at_once_than_there_are_slots_and_all_of_them_run(system: System) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings.model_copy(update={"worker_slots": 3}), provider):
        job_ids = [await system.submit(model=f"m{number}") for number in range(10)]
        for number in range(10):
            call = await provider.call(number)
            await provider.until(lambda number=number: len(provider.running) == min(3, 10 - number))  # type: ignore[misc]
            call.say(call.model)
            call.end()
            story = await system.story(job_ids[int(call.model.removeprefix("m"))])
            assert story.text == call.model


async def test_a_worker_that_joins_a_fleet_full_of_long_jobs_fills_its_slots(system: System) -> None:
    """arq alone reads the first hundred jobs of a queue, in which running ones stay."""
    provider = ControlledProvider(on_call=lambda call: call.say("Long."))
    long_waits = {"first_token_timeout_s": 60.0, "gap_timeout_s": 60.0}

    def worker(slots: int) -> AbstractAsyncContextManager[object]:
        return running_worker(system.settings.model_copy(update={**long_waits, "worker_slots": slots}), provider)

    for spec in [make_spec() for _ in range(150)]:
        await system.core.queue_admission.admit(spec, max_depth=150, retention_s=60)
        await system.core.store.create(spec, 1)
        await system.core.queue_admission.release(spec.id, spec.lane)
    async with AsyncExitStack() as fleet:
        for slots, running in ((40, 40), (40, 80), (40, 120), (20, 140), (10, 150)):
            await fleet.enter_async_context(worker(slots))
            await provider.until(lambda running=running: len(provider.running) == running)  # type: ignore[misc]
        # No job has made room for another.
        assert len(provider.calls) == 150


async def test_no_slot_is_lost_however_jobs_end(system: System) -> None:
    def on_call(call: Call) -> None:
        match call.model:
            case "defect":
                call.fail(RuntimeError("a defect of ours"))
            case "garbage":
                call.send({"choices": 7})
            case "truncated":
                call.say("a")
                call.stop()
            case "fine":
                call.end()
            case model if model.startswith("last"):
                call.say("a")  # in time, however late its end comes

    provider = ControlledProvider(on_call)
    slots = 3
    settings = system.settings.model_copy(update={"worker_slots": slots, "first_token_timeout_s": SOON_S})
    async with running_worker(settings, provider):
        for _ in range(slots):
            ended = [await system.submit(model=model) for model in ("defect", "garbage", "truncated", "silent", "fine")]
            lost = await system.submit(model="fine")
            await system.core.client.delete(ARQ_JOB + lost)
            ended.append(lost)
            cancelled = await system.submit(model="cancelled")
            for job_id in ended:
                await system.story(job_id)
            await system.cancel(cancelled)
            await system.story(cancelled)
            ghost = make_spec()
            await system.core.queue_admission.admit(ghost, max_depth=10, retention_s=60)
            await system.due(ghost.id)
        last = [await system.submit(model=f"last {number}") for number in range(slots + 1)]
        await provider.until(lambda: len(provider.running) == slots)
        assert all(model.startswith("last") for model in provider.running)
        for number, job_id in enumerate(last):
            (await provider.call_for(f"last {number}")).end()
            assert (await system.story(job_id)).types[-1] == "completed"
