"""Continue a sentence after its worker was killed, frozen or stopped, and after its upstream broke.

Workers that get signals are real processes. The upstream is this process's own: it can continue an answer, and counts
the tokens that it generates twice. Not here: other consequences of a failure (test_mid_answer_failures.py).
"""

import asyncio
import random
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from shared.config.settings import Settings
from shared.model.events import Event, EventType
from shared.model.routes import Continuation
from tests.support.controlled_provider import ControlledProvider, controlled_upstream
from tests.support.processes import Processes
from tests.support.system import Story, System, proven, running_system, running_worker, surviving
from tests.support.upstream import Manner, Seen, Upstream, WireScript, ask, expected_text, running_upstream
from worker.model import retry

pytestmark = pytest.mark.usefixtures("an_old_server")

TOKENS = 200
POSITIONS = range(TOKENS + 1)
HOW = Continuation.CONTINUE_FINAL_MESSAGE
FLOWING = random.Random(6).sample(range(1, TOKENS), 12)
BURST = 25  # tokens at once: nothing here depends on how they are written, and it is faster
LONG_S = 60.0


class FirstCalls:
    """The failure of the first call of each question: `fault`, at the token of the script's seed."""

    def __init__(self) -> None:
        self.fault: str | None = None
        self._asked: set[str] = set()

    def planned_fault(self, question: str, script: WireScript, left: int) -> tuple[str, WireScript] | None:
        """See `Manner`."""
        if self.fault is None or question in self._asked:
            return None
        self._asked.add(question)
        return self.fault, script.model_copy(update={"fault": self.fault, "after": script.seed})


@pytest.fixture
def first_calls() -> FirstCalls:
    """Nothing goes wrong, unless a test says so."""
    return FirstCalls()


@pytest.fixture
async def upstream(first_calls: FirstCalls) -> AsyncIterator[Upstream]:
    """Start the upstream of all workers."""
    async with running_upstream(manner=Manner(continuation=HOW, planned_fault=first_calls.planned_fault)) as opened:
        yield opened


@pytest.fixture
def settings(settings: Settings, upstream: Upstream) -> Settings:
    """Room for all jobs at once, a short lease, and no hurry otherwise."""
    return settings.model_copy(
        update={
            "lease_s": 0.6,
            "worker_slots": len(POSITIONS),
            "max_running_per_tenant": len(POSITIONS),
            "max_attempts": 2,
            "first_token_timeout_s": LONG_S,
            "gap_timeout_s": LONG_S,
            "timeout_s": LONG_S,
            "upstream_continuation": HOW,
            "upstream_url": upstream.base_url,
        }
    )


@pytest.fixture
async def system(settings: Settings) -> AsyncIterator[System]:
    """Start a gateway on this test's keys."""
    async with running_system(settings) as opened:
        yield opened


@pytest.fixture
async def processes(system: System) -> AsyncIterator[Processes]:
    """Workers that get real signals."""
    async with Processes(system.settings) as opened:
        yield opened


async def submit_each(system: System, positions: Iterable[int], **script: Any) -> dict[int, tuple[str, dict[str, Any]]]:
    """Return a job for each position, which is its seed: its id and its body."""
    # Each has a model of its own, so that no circuit opens.
    bodies = {position: ask(model=f"m{position}", tokens=TOKENS, seed=position, **script) for position in positions}
    return {position: (await system.submit(body), body) for position, body in bodies.items()}


def second_calls(upstream: Upstream) -> list[Seen]:
    """Return the requests for answers that were requested before."""
    calls = [seen for seen in upstream.requests if seen.path.endswith("/chat/completions")]
    return [seen for n, seen in enumerate(calls) if any(asked(seen) == asked(each) for each in calls[:n])]


def asked(seen: Seen) -> str:
    """Return the question of a request, regardless of how much of the answer it holds."""
    question: str = seen.body["messages"][0]["content"]
    return question


def has_gone_on(story: Story, position: int) -> bool:
    """Check that the story stops after so many tokens and continues right there; no test sees it before the first."""
    began, rest = ["queued", "started", *["delta"] * position], ["delta"] * (TOKENS - position)
    return story.types == [*began, "started", *rest, "completed"]


@pytest.mark.slow(8, "one job for each token")
async def test_an_upstream_that_breaks_at_any_token_is_asked_for_the_missing_ones_only(
    system: System, upstream: Upstream, first_calls: FirstCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "BACKOFF_FIRST_S", 0.01)
    first_calls.fault = "truncate"
    async with running_worker(system.settings):
        jobs = await submit_each(system, POSITIONS, burst=BURST)
        for position, (job_id, body) in jobs.items():
            story = await system.story(job_id, within_s=30.0)
            assert story.text == expected_text(body)
            assert has_gone_on(story, position), story.types

    assert upstream.meter.problems == []
    assert upstream.meter.planned_faults == {"truncate": len(jobs)}
    assert (upstream.meter.generated, upstream.meter.twice) == (TOKENS * len(jobs), 0)


@pytest.mark.slow(10, "a worker process for each token")
async def test_a_worker_that_is_killed_at_any_token_leaves_only_the_missing_ones_to_the_next(
    system: System, upstream: Upstream, first_calls: FirstCalls, processes: Processes
) -> None:
    """One worker dies with a job at each position."""
    first_calls.fault = "stall"
    doomed = await processes.worker()
    jobs = await submit_each(system, POSITIONS, burst=BURST)
    for position, (job_id, _) in jobs.items():
        await system.until(job_id, EventType.DELTA if position else EventType.STARTED, max(1, position))
    await processes.worker()
    await doomed.crash()
    for position, (job_id, body) in jobs.items():
        story = await system.story(job_id, within_s=30.0)
        assert story.text == expected_text(body)
        assert has_gone_on(story, position), story.types

    assert upstream.meter.problems == []
    assert (upstream.meter.generated, upstream.meter.twice) == (TOKENS * len(jobs), 0)
    assert sorted(seen.begun for seen in second_calls(upstream)) == list(POSITIONS)


async def test_a_worker_that_is_killed_while_tokens_flow_leaves_each_reader_the_exact_text(
    system: System, upstream: Upstream, processes: Processes
) -> None:
    """At different speeds, so that each answer is elsewhere when the worker dies."""
    doomed = await processes.worker()
    bodies = [ask(model=f"m{number}", tokens=TOKENS, seed=number, rate=40.0 + 10 * number) for number in range(12)]
    reported: list[list[Event]] = [[] for _ in bodies]
    half = asyncio.Event()

    async def read(events: list[Event], job_id: str) -> None:
        async with system.reading(job_id) as next_event:
            while not events or events[-1].type is not EventType.COMPLETED:
                events.append(await next_event())
                if len(surviving(events)) == TOKENS // 2:
                    half.set()

    async with asyncio.TaskGroup() as readers, asyncio.timeout(30.0):
        for events, body in zip(reported, bodies, strict=True):
            readers.create_task(read(events, await system.submit(body)))
        await half.wait()
        await doomed.crash()
        await processes.worker()

    assert upstream.meter.problems == []
    goes_on_at = {asked(seen): seen.begun for seen in second_calls(upstream)}
    for events, body in zip(reported, bodies, strict=True):
        story = proven(events)
        assert story.text == expected_text(body)
        assert "rollback" not in story.types
        assert story.types.index("started", 2) - 2 == goes_on_at[body["messages"][0]["content"]]


async def test_a_stopped_worker_hands_over_its_sentences_without_repeats(
    system: System, upstream: Upstream, first_calls: FirstCalls, processes: Processes
) -> None:
    first_calls.fault = "stall"
    stopped = await processes.worker(drain_s=0.0, lease_s=LONG_S)
    jobs = await submit_each(system, FLOWING)
    for position, (job_id, _) in jobs.items():
        await system.until(job_id, EventType.DELTA, position)
    await processes.worker()
    assert await stopped.terminated() == 0
    for position, (job_id, body) in jobs.items():
        story = await system.story(job_id)
        assert story.text == expected_text(body)
        assert has_gone_on(story, position), story.types
        assert (await system.job(job_id)).attempts == 1

    assert (upstream.meter.problems, upstream.meter.twice) == ([], 0)


@pytest.fixture
async def told_by(settings: Settings) -> AsyncIterator[tuple[ControlledProvider, str]]:
    """Provide an upstream that says the text of its test."""
    async with controlled_upstream() as opened:
        yield opened


async def test_a_frozen_worker_that_wakes_up_changes_nothing_that_a_reader_sees(
    system: System, told_by: tuple[ControlledProvider, str], processes: Processes
) -> None:
    provider, url = told_by
    zombie = await processes.worker(upstream_url=url)
    job_id = await system.submit()
    first = await provider.call()
    first.say("Once ", "upon ")
    async with system.reading(job_id) as read:
        seen = [await read() for _ in range(4)]
        zombie.freeze()
        first.say("never ", "to be ", "seen")
        await processes.worker(upstream_url=url)
        second = await provider.call(1)
        second.say("a ")
        seen += [await read() for _ in range(2)]
        zombie.thaw()
        await first.until_closed()
        second.say("time.")
        second.end()
        seen += [await read() for _ in range(2)]
    story = await system.story(job_id)

    assert seen == story.events
    assert story.types == ["queued", "started", *["delta"] * 2, "started", *["delta"] * 2, "completed"]
    assert story.text == "Once upon a time."
    assert second.request["messages"][-1] == {"role": "assistant", "content": "Once upon "}
    assert len(provider.calls) == 2
