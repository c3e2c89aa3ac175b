"""Test jobs that take the answers of others into their requests, from the submit to the provider or the function."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from shared.config.settings import Settings
from shared.model.lifecycle import State
from tests.support.controlled_provider import ControlledProvider, controlled_upstream
from tests.support.processes import Processes
from tests.support.system import System, ask, running_system, running_worker
from worker.upstream.providers.scripted import Scripted

KINDS = ("tests.support.own_kinds",)


@pytest.fixture
async def system(settings: Settings) -> AsyncIterator[System]:
    """Start a gateway that knows kinds of functions."""
    async with running_system(settings.model_copy(update={"kinds": KINDS})) as opened:
        yield opened


def steps(value: object, **fields: Any) -> dict[str, Any]:
    return {"kind": "steps", "input": {"steps": value}, **fields}


async def result_of(system: System, job_id: str) -> Any:
    """Return the result of a function, whose own events `Story` does not know."""
    assert (await system.over(job_id)).status is State.COMPLETED
    return (await system.client.get(f"/v1/jobs/{job_id}/result")).json()["result"]


async def test_a_chat_takes_the_texts_of_two_others(system: System) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        outline, style = [await system.submit(model=name) for name in ("outline", "style")]
        text = "Write {{outline}} in the style of {{ style }}."
        child = await system.submit(ask(text, model="child", after={"outline": outline, "style": style}))
        for name, said in (("outline", "a {{style}} tale"), ("style", "Swift")):
            call = await provider.call_for(name)
            call.say(said)
            call.end()
        call = await provider.call_for("child")
        call.end()
        assert (await system.story(child)).types[-1] == "completed"

    assert call.request["messages"] == [{"role": "user", "content": "Write a {{style}} tale in the style of Swift."}]


async def test_the_request_of_a_job_is_stored_as_it_was_sent(system: System) -> None:
    parent = await system.submit()
    child = await system.submit(ask("{{a}}", after={"a": parent}))

    assert (await system.core.store.request(child))["messages"][0]["content"] == "{{a}}"


async def test_a_function_takes_the_result_of_another_one_as_a_value(system: System) -> None:
    async with running_worker(system.settings):
        first = await system.submit(steps(["one", "two"]))
        both = await system.submit(steps([{"$result": "a"}], after={"a": first}))
        assert (await system.over(both)).error_code == "invalid_request"
        text = await system.submit(steps(["{{a}}"], after={"a": first}))

        assert await result_of(system, text) == {"steps": ['{"steps":["one","two"],"attempt":1}'], "attempt": 1}


async def test_a_function_gets_a_list_that_another_ones_model_would_not_have_taken(system: System) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        parent = await system.submit(model="parent")
        child = await system.submit(steps([{"$result": "a"}, "two"], after={"a": parent}))
        call = await provider.call_for("parent")
        call.say("one")
        call.end()

        assert (await result_of(system, child))["steps"] == ["one", "two"]


async def test_texts_are_embedded_after_they_were_made(system: System) -> None:
    async with running_worker(system.settings, Scripted()):
        parent = await system.submit(steps(["one"]))
        body = {"kind": "embeddings", "model": "m", "input": ["{{a}}", "plain"], "after": {"a": parent}}
        child = await system.submit(body)
        vectors = await system.submit(steps(["{{v}}"], after={"v": child}))
        assert (await system.story(child)).end["result"]["inputs"] == 2

        assert (await result_of(system, vectors))["steps"][0].startswith("[[")


async def test_a_job_whose_parent_has_expired_before_its_begin_fails_clearly(system: System) -> None:
    provider = ControlledProvider()
    parent = await system.submit(model="parent")
    child = await system.submit(ask("{{a}}", model="child", after={"a": parent}))
    async with running_worker(system.settings.model_copy(update={"worker_slots": 1}), provider):
        # The only slot is taken until the parent is gone.
        call = await provider.call_for("parent")
        other = await system.submit(model="other")
        call.end()
        blocking = await provider.call_for("other")
        await system.story(parent)
        await system.core.client.delete(system.core.keys.job(parent).record)
        blocking.end()
        story = await system.story(child)

    assert (story.code, story.types) == ("parent_gone", ["queued", "failed"])
    assert (await system.story(other)).types[-1] == "completed"
    assert await system.core.dead_letters.listed(None, 10, only_open=True) == []


async def test_a_job_that_loses_its_worker_takes_the_same_texts_again(system: System) -> None:
    provider = ControlledProvider()
    settings = system.settings.model_copy(update={"lease_s": 1.0})
    async with controlled_upstream() as (upstream, url), Processes(settings) as processes:
        worker = await processes.worker(upstream_url=url)
        parent = await system.submit(model="parent")
        child = await system.submit(ask("{{a}}", model="child", after={"a": parent}))
        call = await upstream.call_for("parent")
        call.say("the text")
        call.end()
        first = await upstream.call_for("child")
        await worker.crash()
        async with running_worker(settings, provider):
            second = await provider.call_for("child")
            second.end()
            await system.story(child)

    assert first.request["messages"] == second.request["messages"] == [{"role": "user", "content": "the text"}]


# Refusals.


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (ask("{{b}}", after={"a": ""}), "messages[0].content"),
        (steps(["{{b}}"], after={"a": ""}), "input.steps[0]"),
        (steps({"$result": "b"}, after={"a": ""}), "input.steps"),
        (steps({"$result": "a", "x": 1}, after={"a": ""}), "input.steps"),
        (ask(after={"a": ""}, chat_template_kwargs={"x": {"$result": "a"}}), "chat_template_kwargs.x"),
        (steps({"$result": "a"}), "input.steps"),
    ],
)
async def test_a_wrong_reference_is_a_400_that_names_the_field_and_stores_nothing(
    system: System, body: dict[str, Any], param: str
) -> None:
    parent = await system.submit()
    after = {"after": dict.fromkeys(body["after"], parent)} if "after" in body else {}

    answer = await system.client.post("/v1/jobs", {**body, **after})

    assert (answer.status, answer.json()["param"]) == (400, param)
    assert len((await system.client.get("/v1/jobs")).json()["data"]) == 1


async def test_braces_in_a_job_without_parents_are_only_text(system: System) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        await system.submit(ask("{{name}}"))
        assert (await provider.call()).request["messages"][0]["content"] == "{{name}}"
