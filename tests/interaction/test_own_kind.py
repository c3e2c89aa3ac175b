"""A kind of job that only this file knows: registered on both sides, submitted, followed, read, cancelled and refused.

Not here: the built-in kinds, which have tests of their own.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import anyio
import pytest

from gateway.specs.kinds import ADMITTED_KINDS, KindAdmission
from shared.config.settings import Settings
from shared.model.bounds import INLINE_BYTES
from shared.model.errors import AttemptFailed, InvalidRequest, ProviderRefused, StartupError
from shared.model.events import EventId, EventType, encode_data
from shared.model.jobs import Usage
from shared.model.kinds import KindSpec, ResultForm
from shared.store.executions import Execution, Executions
from shared.store.wire.answers import FinishAnswer, StopReason
from tests.support.gateway import running_gateway
from tests.support.system import System, running_system, running_worker
from worker.execution.attempt import AttemptInput
from worker.execution.ending import Ending, completed, ended_badly, finish
from worker.execution.executions import EXECUTABLE_KINDS, ExecutionServices, KindExecution
from worker.model.digest import StreamDigest

WORD_COUNT = KindSpec("word-count", ResultForm.VALUE, streams_text=False)


def read_text(body: Mapping[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    """Read the input: a text."""
    if not isinstance(body.get("text"), str):
        raise InvalidRequest("text must be a text whose words are to be counted.", param="text")
    return request


class WordCount:
    """One execution: it reports each word. The word `hang` never ends, and `fail` is refused."""

    shown = 0

    def __init__(self, execution: Execution, given: AttemptInput, services: ExecutionServices) -> None:
        self.execution = execution
        self.stopped: StopReason | None = None
        self._words: list[str] = given.request["text"].split()
        self._outbox = services.pump.open(execution, self.stop)
        self._clock = services.pump.clock
        self._deadline = self._clock.monotonic() + execution.left_ms / 1000
        self._scope = anyio.CancelScope()

    @property
    def last(self) -> EventId:
        return EventId(self.execution.epoch, self._outbox.seq)

    @property
    def left_s(self) -> float:
        return self._deadline - self._clock.monotonic()

    def stop(self, reason: StopReason) -> None:
        if self.stopped is None:
            self.stopped = reason
            self._scope.cancel()

    async def run(self) -> Ending | AttemptFailed | None:
        with self._scope:
            for number, word in enumerate(self._words, 1):
                progress = {"done": number, "total": len(self._words), "message": word}
                await self._outbox.put(EventType.PROGRESS, encode_data(progress))
                if word == "fail":
                    return ProviderRefused("The word fail can't be counted.", code="invalid_request", param="text")
                if word == "hang":
                    await anyio.sleep_forever()
            await self._outbox.flushed()
        if self.stopped is not None:
            return None
        ending = completed([], Usage(0, 0, "estimated"), StreamDigest())
        return replace(ending, data={**ending.data, "result": {"words": len(self._words)}})

    async def flushed(self) -> None:
        await self._outbox.flushed()

    def failed(self, error: AttemptFailed) -> Ending:
        return ended_badly(error, None, StreamDigest())

    async def finish(self, executions: Executions, ending: Ending) -> FinishAnswer:
        await self._outbox.flushed()
        return await finish(executions, self.execution, ending, self._outbox.seq + 1)


ADMITTED = ADMITTED_KINDS.adding(KindAdmission(WORD_COUNT, read_text))
EXECUTABLE = EXECUTABLE_KINDS.adding(KindExecution(WORD_COUNT, WordCount))


@pytest.fixture
async def system(settings: Settings) -> AsyncIterator[System]:
    """Start a gateway and a worker that know the kind."""
    async with running_system(settings, ADMITTED) as running, running_worker(settings, kinds=EXECUTABLE):
        yield running


def counting(text: object) -> dict[str, Any]:
    """Return the body of a job that counts words."""
    return {"kind": "word-count", "model": "scripted", "text": text}


async def test_a_job_of_the_kind_runs_from_its_submission_to_its_result(system: System) -> None:
    submitted = await system.client.post("/v1/jobs", counting("one two three"))
    job_id = submitted.json()["id"]
    story = await system.story(job_id)
    result = await system.client.get(f"/v1/jobs/{job_id}/result")
    job = (await system.client.get(f"/v1/jobs/{job_id}")).json()

    assert (submitted.status, submitted.json()["kind"]) == (202, "word-count")
    assert submitted.json()["links"]["result"] == f"/v1/jobs/{job_id}/result"
    assert story.types == ["queued", "started", "progress", "progress", "progress", "completed"]
    assert [event.json()["message"] for event in story.events[2:5]] == ["one", "two", "three"]
    assert story.end["result"] == {"words": 3}
    assert result.json() == {"object": "result", "job": job_id, "status": "completed", "result": {"words": 3}}
    assert (job["status"], job["result"]) == ("completed", {"words": 3})


async def test_it_is_listed_by_its_kind(system: System) -> None:
    job_id = await system.submit(counting("one"))
    await system.submit()
    listed = (await system.client.get("/v1/jobs?kind=word-count")).json()["data"]

    assert [job["id"] for job in listed] == [job_id]


async def test_it_is_cancelled_while_it_runs(system: System) -> None:
    job_id = await system.submit(counting("one hang three"))
    await system.until(job_id, EventType.PROGRESS, 2)
    cancelled = await system.cancel(job_id)
    story = await system.story(job_id)
    result = (await system.client.get(f"/v1/jobs/{job_id}/result")).json()

    assert cancelled["status"] == "cancelled"
    assert story.types == ["queued", "started", "progress", "progress", "cancelled"]
    assert (result["status"], result["result"]) == ("cancelled", None)


async def test_it_fails_with_the_error_of_its_execution(system: System) -> None:
    story = await system.story(await system.submit(counting("one fail")))

    assert (story.types[-1], story.code) == ("failed", "invalid_request")


@pytest.mark.parametrize("text", [None, 5, ["one"]])
async def test_an_input_that_it_refuses_is_a_400_that_names_the_field(system: System, text: object) -> None:
    refused = await system.client.post("/v1/jobs", counting(text))

    assert (refused.status, refused.json()["param"]) == (400, "text")
    assert refused.json()["detail"] == "text must be a text whose words are to be counted."


async def test_a_large_input_is_read_by_its_reader_in_another_process(system: System) -> None:
    words = INLINE_BYTES // 4
    # The process imports this file at its first call, which may take longer than a client waits.
    await system.gateway.services.heavy._process.call(read_text, counting("one"), {})
    body = counting("hang " + "one " * words)
    accepted = await system.client.post("/v1/jobs", body)
    refused = await system.client.post("/v1/jobs", {**body, "text": ["one"] * words})

    assert accepted.status == 202
    assert (refused.status, refused.json()["param"]) == (400, "text")


async def test_an_unknown_kind_is_a_400_that_names_the_known_ones(system: System) -> None:
    submitted = await system.client.post("/v1/jobs", {**counting("one"), "kind": "letter-count"})
    listed = await system.client.get("/v1/jobs?kind=letter-count")

    for refused in (submitted, listed):
        assert (refused.status, refused.json()["param"]) == (400, "kind")
        assert refused.json()["detail"] == "kind must be one of: chat, embeddings, word-count."


async def test_a_gateway_that_does_not_know_the_kind_shows_its_jobs_without_a_result(system: System) -> None:
    job_id = await system.submit(counting("one"))
    await system.story(job_id)
    async with running_gateway(system.settings) as older:
        job = (await older.client.get(f"/v1/jobs/{job_id}")).json()
        result = await older.client.get(f"/v1/jobs/{job_id}/result")
        chat = await older.client.get(f"/v1/chat/completions/{job_id}")

    assert (job["kind"], job["status"], "result" in job["links"]) == ("word-count", "completed", False)
    assert (result.status, chat.status) == (404, 404)


async def test_it_is_a_task_too_whose_result_is_its_value(settings: Settings) -> None:
    changed = settings.model_copy(update={"tasks_kind": "word-count"})
    async with running_system(changed, ADMITTED) as system, running_worker(changed, kinds=EXECUTABLE):
        refused = await system.client.post("/tasks", {"model": "scripted"})
        submitted = await system.client.post("/tasks", {"model": "scripted", "text": "one two"})
        ended = (await system.client.get(submitted.headers["location"] + "?wait=5")).json()

    assert (refused.status, refused.json()["param"]) == (400, "text")
    assert (ended["kind"], ended["status"], ended["result"]) == ("word-count", "SUCCESS", {"words": 2})


async def test_a_setting_that_names_an_unknown_kind_is_refused_at_the_start(settings: Settings) -> None:
    changed = settings.model_copy(update={"tasks_kind": "word-count"})
    with pytest.raises(StartupError, match=r"^TAILRACE_TASKS_KIND must be one of: chat, embeddings\.$"):
        async with running_gateway(changed):
            raise AssertionError("It started.")
