"""Test the progress of jobs through gateway and worker. Not here: the count (tests/unit/shared/model)."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from shared.config.settings import Settings
from shared.model.errors import ProviderUnreachable
from shared.model.events import EventType, decode_frame
from shared.model.routes import Continuation
from tests.support.controlled_provider import ControlledProvider
from tests.support.system import System, ask, reading, running_system, running_worker


@pytest.fixture
def provider() -> ControlledProvider:
    return ControlledProvider()


@pytest.fixture
async def system(settings: Settings, provider: ControlledProvider) -> AsyncIterator[System]:
    """Start a gateway, and a worker of a provider that the test controls."""
    async with running_system(settings) as running, running_worker(settings, provider):
        yield running


async def progress(system: System, job_id: str) -> dict[str, Any]:
    """Return the progress of a job, which its task shows too."""
    job = (await system.client.get(f"/v1/jobs/{job_id}")).json()
    if job["status"] != "running":  # of a job that runs, the two reads may differ
        assert (await system.client.get(f"/tasks/{job_id}")).json()["progress"] == job["progress"]
    shown: dict[str, Any] = job["progress"]
    return shown


async def test_a_chat_advances_by_its_tokens_to_its_limit(system: System, provider: ControlledProvider) -> None:
    job_id = await system.submit({**ask(), "max_tokens": 4})
    call = await provider.call()
    await system.until(job_id, EventType.STARTED)
    begun = await progress(system, job_id)
    call.say("Hello")
    await system.until(job_id, EventType.DELTA)
    later = await progress(system, job_id)
    call.end()
    await system.story(job_id)

    assert begun == {"percent": 0, "stage": "running", "message": "0 tokens"}
    assert later == {"percent": 25, "stage": "running", "message": "1 token"}
    assert (await progress(system, job_id))["percent"] == 100


async def test_a_chat_without_a_limit_is_expected_to_be_as_long_as_the_last_ones(
    system: System, provider: ControlledProvider
) -> None:
    seen = []
    for number in range(2):
        job_id = await system.submit(ask())
        call = await provider.call(number)
        call.say("Hello")
        await system.until(job_id, EventType.DELTA)
        seen.append((await progress(system, job_id))["percent"])
        call.say(" world")
        call.end()
        await system.story(job_id)

    assert seen == [None, 50]


@pytest.mark.parametrize(
    ("continuation", "percent", "message"),
    [(Continuation.NONE, 25, "1 token"), (Continuation.PREFILL, 75, "3 tokens")],
)
async def test_a_second_attempt_says_so_and_starts_over_unless_it_continues(
    settings: Settings, provider: ControlledProvider, continuation: Continuation, percent: int, message: str
) -> None:
    changed = settings.model_copy(update={"upstream_continuation": continuation, "max_attempts": 3})
    async with running_system(changed) as system, running_worker(changed, provider):
        job_id = await system.submit({**ask(), "max_tokens": 4})
        failing = await provider.call()
        failing.say("Hello")
        failing.say(" world")
        failing.fail(ProviderUnreachable("The provider broke off."))
        (await provider.call(1)).say(" again")
        async with reading(system.client, job_id) as read:
            for awaited in (EventType.STARTED, EventType.STARTED, EventType.DELTA):
                while (await read()).type is not awaited:
                    pass
        shown = await progress(system, job_id)

    assert shown == {"percent": percent, "stage": "retrying", "message": message}


KINDS = ("tests.support.own_kinds",)


@pytest.fixture
async def own_system(settings: Settings) -> AsyncIterator[System]:
    """Start a gateway and a worker that know the functions of a module."""
    changed = settings.model_copy(update={"kinds": KINDS})
    async with running_system(changed) as running, running_worker(changed):
        yield running


def doing(*steps: str, kind: str = "steps") -> dict[str, Any]:
    return {"kind": kind, "input": {"steps": steps}}


async def test_a_function_is_as_far_as_it_says(own_system: System) -> None:
    job_id = await own_system.submit(doing("hang"))
    await own_system.until(job_id, EventType.PROGRESS)
    # The report is in the record shortly after its event is in the log.
    async with asyncio.timeout(5):
        while (shown := await progress(own_system, job_id))["message"] is None:
            pass
    await own_system.cancel(job_id)

    said = {"message": "hang", "done": 1, "total": 1}
    assert shown == {"percent": 99, "stage": "running", **said}
    assert await progress(own_system, job_id) == {"percent": 99, "stage": "cancelled", **said}


async def test_a_thousand_reports_are_few_events_of_which_the_last_is_one(own_system: System) -> None:
    numbers = map(str, range(1, 1001))
    story = await own_system.story(await own_system.submit(doing(*numbers, kind="count")))
    reports = [event.json() for event in story.events if event.type is EventType.PROGRESS]
    percents = [report["percent"] for report in reports]

    assert story.types[-1] == "completed"
    assert len(reports) < 100
    assert (reports[0]["done"], reports[-1]["done"]) == (1, 1000)
    assert percents == sorted(percents)


async def test_a_report_that_is_not_a_number_fails_the_attempt(own_system: System) -> None:
    story = await own_system.story(await own_system.submit(doing("nan", kind="count")))

    assert (story.types, story.code) == (["queued", "started", "failed"], "function_failed")


async def test_a_second_attempt_says_that_it_starts_over(own_system: System) -> None:
    job_id = await own_system.submit(doing("fail once, then hang"))
    story = await own_system.until(job_id, EventType.PROGRESS)
    await own_system.cancel(job_id)

    assert story[-1].json()["stage"] == "retrying"


async def test_a_reader_that_asks_gets_the_progress_of_a_chat_between_the_events_of_the_log(
    system: System, provider: ControlledProvider
) -> None:
    job_id = await system.submit({**ask(), "max_tokens": 4})
    call = await provider.call()
    call.say("Hello")
    await system.until(job_id, EventType.DELTA)
    async with system.client.stream("GET", f"/v1/jobs/{job_id}/events?progress=true") as response:
        frames = []
        while b"event: progress" not in (frame := await response.frame()):
            assert frame, "the stream ended without progress"
            frames.append(frame)
        shown = decode_frame(frame)
        call.end()
        while frame := await response.frame():
            frames.append(frame)
    log = await system.client.get(f"/v1/jobs/{job_id}/events")

    assert (shown.id, shown.json()) == (None, {"percent": 25, "stage": "running", "message": "1 token"})
    assert [decode_frame(each).type for each in frames] == ["queued", "started", "delta", "completed"]
    assert b"".join(frames) == log.body


async def test_a_job_that_has_ended_is_read_without_progress(system: System, provider: ControlledProvider) -> None:
    job_id = await system.submit({**ask(), "max_tokens": 4})
    call = await provider.call()
    call.say("Hello")
    call.end()
    await system.story(job_id)
    log, asked = [await system.client.get(f"/v1/jobs/{job_id}/events{query}") for query in ("", "?progress=true")]

    assert asked.body == log.body


async def test_a_malformed_wish_for_progress_is_refused_by_its_name(system: System) -> None:
    job_id = await system.submit(ask())
    refused = await system.client.get(f"/v1/jobs/{job_id}/events?progress=yes")

    assert (refused.status, refused.json()["param"]) == (400, "progress")
