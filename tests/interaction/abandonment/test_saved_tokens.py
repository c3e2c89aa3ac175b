"""Test the tokens that abandonment saves: in a job's end, and in the metrics."""

from shared.model.events import EventType
from tests.interaction.abandonment.requests import native
from tests.interaction.abandonment.states import is_given_up
from tests.support.controlled_provider import ControlledProvider
from tests.support.system import System, running_worker
from tests.support.upstream import Upstream


async def test_an_abandoned_job_reports_its_saved_tokens(system: System, upstream: Upstream) -> None:
    async with running_worker(system.settings):
        body = {**native(tokens=9, fault="stall", after=3), "max_tokens": 100}
        job_id = await system.submit(body)
        async with system.client.stream("GET", f"/v1/jobs/{job_id}/events") as reader:
            await reader.frames(5)
        end = await is_given_up(system, upstream)
        shown = (await system.client.get(f"/v1/jobs/{job_id}")).json()
    assert (end["usage"]["completion_tokens"], end["tokens_saved"], shown["tokens_saved"]) == (3, 97, 97)


async def test_one_without_a_limit_would_have_been_as_long_as_its_models_answers(system: System) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        first = await system.submit()
        (await provider.call()).end(usage={"prompt_tokens": 1, "completion_tokens": 500})
        assert (await system.story(first)).end.get("tokens_saved") is None
        second = await system.submit(on_disconnect="cancel")
        call = await provider.call(1)
        call.say("a", "b")
        await system.until(second, EventType.DELTA, 2)
        job = await system.over(second)
    assert job.outcome["tokens_saved"] == 498


async def test_saved_tokens_are_counted_in_the_metrics(system: System) -> None:
    async with running_worker(system.settings, ControlledProvider()) as worker:
        await worker.ready()
        job_id = await system.submit({**native(), "max_completion_tokens": 50, "abandon_after_s": 0.1})
        await system.over(job_id)
    text = (await system.client.as_("sk-root").get("/metrics")).body.decode()
    saved = [line for line in text.splitlines() if line.startswith("tailrace_tokens_saved_total{")]
    assert sum(float(line.rpartition(" ")[2]) for line in saved) == 50
    assert "tailrace_jobs_ended_total{" in text and 'code="abandoned"' in text


async def test_a_cancelled_job_has_no_saved_tokens(system: System) -> None:
    job_id = await system.submit({**native(), "max_tokens": 100})
    assert (await system.cancel(job_id))["tokens_saved"] is None
