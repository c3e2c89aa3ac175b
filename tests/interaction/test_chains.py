"""Several providers behind one model: fallbacks, in mid-sentence too, circuits that open, and limits that hold.

The test scripts each provider. Not here: the form of a chain (tests/unit/shared/model/test_routes.py).
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from shared.config.route_settings import ProviderSettings, RouteSettings
from shared.config.settings import Settings
from shared.model.errors import ProviderRefused, ProviderUnreachable
from shared.model.events import EventType
from shared.store.permits import ConcurrencyPermits, PermitHolder
from tests.support.controlled_provider import Call, ControlledProvider
from tests.support.core import captured_logs
from tests.support.system import System, Worker, ask, read_story, running_system, running_worker
from worker.upstream.wire.vectors import Vectors, read_vectors

pytestmark = pytest.mark.usefixtures("short_pauses")

BROKEN = ProviderUnreachable("The connection broke.")
TOO_MANY = 10
"""Failures that open a circuit."""
NOWHERE = "http://127.0.0.1:1/v1"


class Providers(dict[str, ControlledProvider]):
    """Scripted providers by their names."""

    def __init__(self, *names: str) -> None:
        super().__init__((name, ControlledProvider()) for name in names)
        for name, reported in self.items():
            reported.name = name

    def worker(self, settings: Settings) -> AbstractAsyncContextManager[Worker]:
        """Return a worker with these."""
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


class Embedder(ControlledProvider):
    """A provider with vectors that show that they are its own."""

    def __init__(self, name: str, fails_after: int = 10) -> None:
        super().__init__()
        self.name = name
        self._fails_after = fails_after
        self.asked: list[int] = []

    async def embed(self, request: Mapping[str, Any]) -> Vectors:
        """One number for all."""
        self.asked.append(len(request["input"]))
        if len(self.asked) > self._fails_after:
            raise BROKEN
        vector = [1.0, 1.0] if self.name == "a" else [2.0, 2.0]
        data = [{"index": index, "embedding": vector} for index in range(len(request["input"]))]
        return read_vectors({"data": data}, len(data))


def routes(*chain: Any, limit: int | None = None, **route: Any) -> Callable[[Settings], Settings]:
    """Return settings with the providers a and b, of which b can continue an answer, and this chain for each model."""
    b = {"base_url": NOWHERE, "continuation": "prefix", "max_concurrency": limit}
    providers = {
        name: ProviderSettings.model_validate(each) for name, each in {"a": {"base_url": NOWHERE}, "b": b}.items()
    }
    table = RouteSettings.model_validate({"chain": chain, **route})
    changes = {"upstream_url": None, "max_attempts": 2, "providers": providers, "routes": {"*": table}}
    return lambda settings: settings.model_copy(update=changes)


@pytest.fixture
async def system(settings: Settings) -> AsyncIterator[System]:
    """Start a gateway."""
    async with running_system(settings) as opened:
        yield opened


@pytest.fixture
def providers() -> Providers:
    """a and b."""
    return Providers("a", "b")


async def test_the_second_provider_answers_if_the_first_fails(system: System, providers: Providers) -> None:
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
async def test_a_permanent_failure_of_one_provider_is_retried_at_the_next(
    system: System, providers: Providers, code: str
) -> None:
    async with providers.worker(routes("a", "b")(system.settings)):
        job_id = await system.submit()
        await providers.fails("a", error=ProviderRefused("No.", code=code))
        await providers.answers("b", "Hello.")
        story = await system.story(job_id)

    assert (story.text, len(providers["a"].calls)) == ("Hello.", 1)


async def test_a_failure_that_every_provider_would_repeat_ends_the_job(system: System, providers: Providers) -> None:
    async with providers.worker(routes("a", "b")(system.settings)):
        job_id = await system.submit()
        await providers.fails("a", error=ProviderRefused("No.", code="content_policy_violation"))
        story = await system.story(job_id)

    assert (story.code, providers["b"].calls) == ("content_policy_violation", [])


async def test_the_next_provider_continues_in_mid_sentence(system: System, providers: Providers) -> None:
    async with providers.worker(routes("a", "b")(system.settings)):
        job_id = await system.submit()
        await providers.fails("a", "There are ", "sev")
        rest = await providers.answers("b", "en.")
        story = await system.story(job_id)

    assert story.text == "There are seven."
    assert "rollback" not in story.types
    assert rest.request["messages"][-1] == {"role": "assistant", "content": "There are sev", "prefix": True}


async def test_a_provider_that_cannot_continue_starts_over(system: System, providers: Providers) -> None:
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
                job_id = await system.submit(ask(f"Question {number}?"))
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


async def test_the_error_of_a_job_says_that_every_circuit_is_open(system: System, providers: Providers) -> None:
    with captured_logs() as logs:
        async with providers.worker(routes("a", max_attempts=1)(system.settings)):
            for number in range(TOO_MANY):
                job_id = await system.submit(ask(f"Question {number}?"))
                await providers.fails("a", number=number)
                await system.story(job_id)
            await logs.wait_for("breaker.changed")
            story = await system.story(await system.submit())

    assert (story.types, story.code) == (["queued", "started", "failed"], "circuit_open")
    assert len(providers["a"].calls) == TOO_MANY


async def test_one_tenants_bad_requests_do_not_refuse_a_provider_to_another(
    system: System, providers: Providers
) -> None:
    with captured_logs() as logs:
        async with providers.worker(routes("a", max_attempts=1)(system.settings)):
            for number in range(TOO_MANY):
                job_id = await system.submit(ask(f"Picture {number}?"))
                await providers.fails("a", number=number)
                await system.story(job_id)
            await logs.wait_for("breaker.changed")
            refused = await system.story(await system.submit())
            bob = system.client.as_("sk-bob")
            answer = await bob.post("/v1/jobs", ask())
            await providers.answers("a", "Hello.", number=TOO_MANY)
            served = await read_story(bob, answer.json()["id"])

    assert (refused.code, served.text) == ("circuit_open", "Hello.")


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
    assert await system.core.client.zcard(system.core.keys.permits("b").holders) == 0


async def test_a_full_provider_is_passed_over_if_another_one_can_answer(system: System, providers: Providers) -> None:
    async with providers.worker(routes("b", "a", limit=1)(system.settings)):
        first, second = await system.submit(), await system.submit()
        await providers.answers("a", "Second.")
        await providers.answers("b", "First.")
        texts = {(await system.story(first)).text, (await system.story(second)).text}

    assert texts == {"First.", "Second."}


async def test_jobs_that_went_to_another_provider_keep_no_position(system: System, providers: Providers) -> None:
    async with providers.worker(routes("b", "a", limit=1)(system.settings)):
        first, second, third = [await system.submit() for _ in range(3)]
        for number in range(2):
            await providers.answers("a", "Elsewhere.", number=number)
        await providers.answers("b", "Here.")
        texts = [(await system.story(job_id)).text for job_id in (first, second, third)]
        last = await system.submit()
        await providers.answers("b", "Here again.", number=1)
        story = await system.story(last)

    assert sorted(texts) == ["Elsewhere.", "Elsewhere.", "Here."]
    assert story.text == "Here again."


async def test_a_sentence_waits_for_the_provider_that_can_continue_with_it(
    system: System, providers: Providers
) -> None:
    async with providers.worker(routes("b", "a", limit=1, max_attempts=3)(system.settings)):
        job_id = await system.submit()
        first = await providers["b"].call()
        first.say("There are ")
        await system.until(job_id, EventType.DELTA)
        holder = PermitHolder("b", "another worker", "another job")
        places = ConcurrencyPermits(system.core.client, system.core.keys)
        async with system.commands() as command:
            first.fail(BROKEN)
            await command("release_permit")
            assert await places.acquire(holder, 1, 60.0)
            await command("acquire_permit")
        await places.release(holder)
        await providers.answers("b", "seven.", number=1)
        story = await system.story(job_id)

    assert (story.text, providers["a"].calls) == ("There are seven.", [])
    assert (await system.job(job_id)).progress.discarded_tokens == 0


async def test_a_provider_that_refuses_to_continue_is_asked_for_the_whole_answer(
    system: System, providers: Providers
) -> None:
    async with providers.worker(routes("b", max_attempts=3)(system.settings)):
        job_id = await system.submit()
        await providers.fails("b", "There are ", "sev")
        refused = ProviderRefused("The last message must be the user's.", code="invalid_request")
        await providers.fails("b", error=refused, number=1)
        anew = await providers.answers("b", "Seven.", number=2)
        story = await system.story(job_id)

    assert (story.text, story.types.count("rollback")) == ("Seven.", 1)
    assert anew.request == providers["b"].calls[0].request
    assert (await system.job(job_id)).progress.discarded_tokens == 2


async def test_an_append_only_stream_fails_if_the_provider_that_can_continue_is_out(
    system: System, providers: Providers
) -> None:
    async with (
        providers.worker(routes("b", "a", max_attempts=3)(system.settings)),
        system.client.calling("/v1/chat/completions", ask(stream=True)) as response,
    ):
        await providers.fails("b", "half", error=ProviderRefused("Pay.", code="insufficient_quota"))
        await response.read_head()
        said = await response.rest()

    assert b'"code":"insufficient_quota"' in said
    assert providers["a"].calls == []


async def test_vectors_of_two_models_are_never_mixed(system: System) -> None:
    inputs = [f"text {number}" for number in range(150)]
    chain = [{"provider": "a", "model": "small"}, {"provider": "b", "model": "other"}]
    one, other = Embedder("a", fails_after=1), Embedder("b")
    async with running_worker(routes(*chain)(system.settings), {"a": one, "b": other}):
        job_id = await system.submit({"kind": "embeddings", "model": "m", "input": inputs})
        story = await system.story(job_id)
    result = (await system.client.get(f"/v1/jobs/{job_id}/result")).json()

    assert story.types == ["queued", "started", "progress", "rollback", "started", "progress", "progress", "completed"]
    assert {tuple(each["embedding"]) for each in result["data"]} == {(2.0, 2.0)}
    assert (one.asked, other.asked) == ([100, 50], [100, 50])


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
