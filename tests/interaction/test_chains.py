"""Several providers behind one model: fallbacks, in mid-sentence too, circuits that open, and limits that hold.

Each provider is told what to say by the test. What a chain may look like is tests/unit/shared/test_routes.py's matter.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from shared.errors import ProviderRefused, ProviderUnreachable
from shared.events import EventType
from shared.settings import Settings
from tests.support.core import captured_logs
from tests.support.system import System, Worker, ask, running_system, running_worker
from tests.support.told import Call, Told
from worker import retry

BROKEN = ProviderUnreachable("The connection broke.")
TOO_MANY = 10
"""Failures that open a circuit."""
NOWHERE = "http://127.0.0.1:1/v1"


class Providers(dict[str, Told]):
    """Told providers by their names."""

    def __init__(self, *names: str) -> None:
        super().__init__((name, Told()) for name in names)
        for name, told in self.items():
            told.name = name

    def worker(self, settings: Settings) -> AbstractAsyncContextManager[Worker]:
        """A worker with these."""
        return running_worker(settings, self)

    async def answers(self, name: str, *words: str, number: int = 0) -> Call:
        """This provider answers so."""
        call = await self[name].call(number)
        call.say(*words)
        call.end()
        return call

    async def fails(self, name: str, *words: str, error: Exception = BROKEN, number: int = 0) -> Call:
        """This one says so much, and fails."""
        call = await self[name].call(number)
        call.say(*words)
        call.fail(error)
        return call


def routes(*chain: Any, limit: int | None = None, **route: Any) -> Callable[[Settings], Settings]:
    """Settings with the providers a and b, of which b can go on, and this chain for each model."""
    b = {"base_url": NOWHERE, "continuation": "prefix", "max_concurrency": limit}
    tables = {"providers": {"a": {"base_url": NOWHERE}, "b": b}, "routes": {"*": {"chain": chain, **route}}}

    def of(settings: Settings) -> Settings:
        fields = settings.model_dump() | {"upstream_url": None, "max_attempts": 2} | tables
        return Settings.model_validate(fields)

    return of


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BACKOFF_FIRST_S", 0.01)


@pytest.fixture
async def system(settings: Settings) -> AsyncIterator[System]:
    """A gateway."""
    async with running_system(settings) as opened:
        yield opened


@pytest.fixture
def providers() -> Providers:
    """a and b."""
    return Providers("a", "b")


async def test_the_second_provider_answers_where_the_first_fails(system: System, providers: Providers) -> None:
    async with providers.worker(routes("a", {"provider": "b", "model": "b-eu"})(system.settings)):
        job_id = await system.submit(ask(model="m"))
        await providers.fails("a")
        answered = await providers.answers("b", "Hello.")
        story = await system.story(job_id)
    job = (await system.client.get(f"/v1/jobs/{job_id}")).json()

    assert story.types == ["queued", "started", "started", "delta", "completed"]
    assert (providers["a"].calls[0].model, answered.model, job["model"]) == ("m", "b-eu", "m")
    assert [(each["provider"], each["model"]) for each in job["attempts"]] == [("a", "m"), ("b", "b-eu")]


@pytest.mark.parametrize("code", ["upstream_auth", "insufficient_quota", "context_length_exceeded"])
async def test_what_is_final_at_one_provider_is_not_at_the_next(
    system: System, providers: Providers, code: str
) -> None:
    async with providers.worker(routes("a", "b")(system.settings)):
        job_id = await system.submit()
        await providers.fails("a", error=ProviderRefused("No.", code=code))
        await providers.answers("b", "Hello.")
        story = await system.story(job_id)

    assert (story.text, len(providers["a"].calls)) == ("Hello.", 1)


async def test_what_is_final_everywhere_ends_the_job(system: System, providers: Providers) -> None:
    async with providers.worker(routes("a", "b")(system.settings)):
        job_id = await system.submit()
        await providers.fails("a", error=ProviderRefused("No.", code="content_policy_violation"))
        story = await system.story(job_id)

    assert (story.code, providers["b"].calls) == ("content_policy_violation", [])


async def test_the_next_provider_goes_on_in_mid_sentence(system: System, providers: Providers) -> None:
    async with providers.worker(routes("a", "b")(system.settings)):
        job_id = await system.submit()
        await providers.fails("a", "There are ", "sev")
        rest = await providers.answers("b", "en.")
        story = await system.story(job_id)

    assert story.text == "There are seven."
    assert "rollback" not in story.types
    assert rest.request["messages"][-1] == {"role": "assistant", "content": "There are sev", "prefix": True}


async def test_one_that_can_not_go_on_starts_over(system: System, providers: Providers) -> None:
    async with providers.worker(routes("b", "a", on_stream_failure="rollback")(system.settings)):
        job_id = await system.submit()
        await providers.fails("b", "There are ", "sev")
        await providers.answers("a", "Seven.")
        story = await system.story(job_id)

    assert story.text == "Seven."
    assert "rollback" in story.types


async def test_a_links_own_time_out_is_its_failure(system: System, providers: Providers) -> None:
    slow = {"provider": "a", "first_token_timeout_s": 0.05}
    async with providers.worker(routes(slow, "b")(system.settings)):
        job_id = await system.submit()
        await providers.answers("b", "Hello.")
        story = await system.story(job_id)
    job = (await system.client.get(f"/v1/jobs/{job_id}")).json()

    assert story.text == "Hello."
    assert job["attempts"][0]["error"]["code"] == "provider_timeout"
    assert providers["a"].calls[0].closed


async def test_a_provider_that_fails_again_and_again_is_passed_over_by_all_workers(
    system: System, providers: Providers
) -> None:
    changed = routes("a", "b")(system.settings)
    with captured_logs() as logs:
        async with providers.worker(changed):
            for number in range(TOO_MANY):
                job_id = await system.submit()
                await providers.fails("a", number=number)
                await providers.answers("b", "Hello.", number=number)
                await system.story(job_id)
            await logs.wait_for("breaker.changed")
    others = Providers("a", "b")
    async with others.worker(changed):
        job_id = await system.submit()
        await others.answers("b", "Hello.")
        story = await system.story(job_id)

    assert story.types == ["queued", "started", "delta", "completed"]
    assert story.events[1].json()["provider"] == "b"


async def test_where_every_circuit_is_open_a_job_says_so(system: System, providers: Providers) -> None:
    with captured_logs() as logs:
        async with providers.worker(routes("a", max_attempts=1)(system.settings)):
            for number in range(TOO_MANY):
                job_id = await system.submit()
                await providers.fails("a", number=number)
                await system.story(job_id)
            await logs.wait_for("breaker.changed")
            story = await system.story(await system.submit())

    assert (story.types, story.code) == (["queued", "started", "failed"], "circuit_open")
    assert len(providers["a"].calls) == TOO_MANY


async def test_no_more_calls_are_made_at_once_than_a_provider_takes(system: System, providers: Providers) -> None:
    changed = routes("b", limit=2)(system.settings)
    async with providers.worker(changed), providers.worker(changed):
        job_ids = [await system.submit() for _ in range(6)]
        for number in range(6):
            call = await providers["b"].call(number)
            assert len(providers["b"].running) <= 2
            call.say("Hello.")
            call.end()
        stories = [await system.story(job_id) for job_id in job_ids]

    assert [story.types for story in stories] == [["queued", "started", "delta", "completed"]] * 6
    assert await system.core.client.zcard(system.core.keys.places("b").holders) == 0


async def test_a_full_provider_is_passed_over_where_another_one_can_answer(
    system: System, providers: Providers
) -> None:
    async with providers.worker(routes("b", "a", limit=1)(system.settings)):
        first, second = await system.submit(), await system.submit()
        await providers.answers("a", "Second.")
        await providers.answers("b", "First.")
        texts = {(await system.story(first)).text, (await system.story(second)).text}

    assert texts == {"First.", "Second."}


async def test_a_job_that_waits_for_a_place_holds_no_slot_for_long(system: System, providers: Providers) -> None:
    changed = routes("b", limit=1)(system.settings).model_copy(update={"worker_slots": 2})
    async with providers.worker(changed):
        long = await system.submit()
        call = await providers["b"].call()
        waiting = await system.submit()
        async with system.commands() as command:
            await command("give_back")
        call.say("Long.")
        call.end()
        await providers.answers("b", "Waited.", number=1)
        texts = [(await system.story(job_id)).text for job_id in (long, waiting)]

    assert texts == ["Long.", "Waited."]


async def test_a_cancelled_job_gives_its_place_back(system: System, providers: Providers) -> None:
    async with providers.worker(routes("b", limit=1)(system.settings)):
        job_id = await system.submit()
        (await providers["b"].call()).say("Half")
        await system.until(job_id, EventType.DELTA)
        await system.cancel(job_id)
        other = await system.submit()
        await providers.answers("b", "Hello.", number=1)
        story = await system.story(other)

    assert story.text == "Hello."
