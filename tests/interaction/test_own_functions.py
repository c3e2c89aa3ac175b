"""Kinds of jobs that are functions of a user's module: submitted, followed, read, refused, retried and cancelled.

Not here: the decorator (tests/unit/shared/model/test_own_kinds.py).
"""

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shared.config.settings import Settings
from shared.model.errors import StartupError
from shared.model.events import EventType
from shared.model.lifecycle import State
from tests.support.core import captured_logs
from tests.support.docs import ROOT
from tests.support.gateway import running_gateway
from tests.support.own_kinds import CLEANED_UP
from tests.support.system import System, running_system, running_worker
from worker.execution import own_function

KINDS = ("tests.support.own_kinds",)
INPUT = {"vector_data": [0.1, 0.2, 0.3], "metadata": {"source": "user"}}
RESULT = {"processed_vectors": 3, "status": "indexed", "metadata_processed": {"source": "user"}}


@pytest.fixture
async def system(settings: Settings) -> AsyncIterator[System]:
    """Start a gateway and a worker that know the kinds of the module."""
    changed = settings.model_copy(update={"kinds": KINDS})
    async with running_system(changed) as running, running_worker(changed):
        yield running


def doing(*steps: object) -> dict[str, Any]:
    """Return the body of a job that carries out these steps."""
    return {"kind": "steps", "input": {"steps": steps}}


async def stream(system: System, job_id: str, last_event_id: str = "") -> list[tuple[str, str, str]]:
    """Return the name, the data and the id of each event of a job that has ended or is about to."""
    answer = await system.client.get(f"/v1/jobs/{job_id}/events?last_event_id={last_event_id}")
    return re.findall(r"event: (.*)\ndata: (.*)\nid: (.*)\n\n", answer.body.decode())


async def test_the_example_of_the_documentation_runs_as_written(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = (ROOT / "worker" / "README.md").read_text("utf-8").partition("## Own kinds\n")[2].partition("\n## ")[0]
    code = section.partition("```python\n")[2].partition("```")[0]
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "kinds.py").write_text(code, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    changed = settings.model_copy(update={"kinds": ("my_package.kinds",)})
    try:
        async with running_system(changed) as system, running_worker(changed):
            job_id = await system.submit({"kind": "vector-index", "input": INPUT})
            story = await system.story(job_id)
            result = (await system.client.get(f"/v1/jobs/{job_id}/result")).json()
            task = await system.client.post("/tasks?kind=vector-index", INPUT)
            default = await system.client.post("/tasks", INPUT)
            refused = await system.client.post("/v1/jobs", {"kind": "vector-index", "input": {"vector_data": ["x"]}})
            ended = [(await system.client.get(each.headers["location"] + "?wait=5")).json() for each in (task, default)]
    finally:
        sys.modules.pop("my_package.kinds", None)
        sys.modules.pop("my_package", None)

    # Reports that follow each other within a quarter of a second are one.
    first, *_, last = (event.json() for event in story.events if event.type is EventType.PROGRESS)
    running = {"total": 3, "stage": "running", "message": "indexing"}
    assert first == {"done": 1, "percent": 33, **running}
    assert last == {"done": 3, "percent": 99, **running}
    assert result == {"object": "result", "job": job_id, "status": "completed", "result": RESULT}
    assert [(each["kind"], each["status"], each["result"]) for each in ended] == [
        ("vector-index", "SUCCESS", RESULT)
    ] * 2
    assert (refused.status, refused.json()["param"]) == (400, "input.vector_data[0]")
    assert str(RESULT).replace("'", '"') in section


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"kind": "steps"}, "input"),
        ({"kind": "steps", "input": ["one"]}, "input"),
        ({"kind": "steps", "input": {}}, "input.steps"),
        ({"kind": "steps", "input": {"steps": ["one", 2]}}, "input.steps[1]"),
        ({"kind": "steps", "input": {"steps": []}, "model": "scripted"}, "model"),
    ],
)
async def test_an_input_that_its_model_refuses_is_a_400_that_names_the_field(
    system: System, body: dict[str, Any], param: str
) -> None:
    refused = await system.client.post("/v1/jobs", body)

    assert (refused.status, refused.json()["param"]) == (400, param)


async def test_the_body_of_a_task_is_the_input_and_is_refused_by_its_own_names(system: System) -> None:
    unnamed = await system.client.post("/tasks", {"steps": ["one"]})
    refused = await system.client.post("/tasks?kind=steps", {"steps": [1]})

    assert (unnamed.status, unnamed.json()["param"]) == (400, "kind")
    assert (refused.status, refused.json()["param"]) == (400, "steps[0]")


async def test_events_of_its_own_are_on_the_stream_and_are_replayed(system: System) -> None:
    job_id = await system.submit(doing("one", "two"))
    events = await stream(system, job_id)
    again = await stream(system, job_id, events[2][2])

    assert [name for name, _, _ in events] == ["queued", "started", "step.done", "step.done", "completed"]
    assert [data for name, data, _ in events if name == "step.done"] == ['{"step":"one"}', '{"step":"two"}']
    assert again == events[3:]


async def test_a_failed_attempt_is_followed_by_another_one(system: System) -> None:
    job_id = await system.submit(doing("fail once"))
    events = await stream(system, job_id)
    job = (await system.client.get(f"/v1/jobs/{job_id}")).json()

    assert [name for name, _, _ in events] == ["queued", "started", "started", "step.done", "completed"]
    assert [each["error"] and each["error"]["code"] for each in job["attempts"]] == ["function_failed", None]
    assert job["result"] == {"steps": ["fail once"], "attempt": 2}


async def test_a_job_whose_attempts_all_fail_is_a_dead_letter_without_its_errors_text(system: System) -> None:
    job_id = await system.submit(doing("fail"))
    story = await system.story(job_id)
    letter = await system.client.as_("sk-root").get(f"/v1/dead-letters/{job_id}")

    assert story.types == ["queued", "started", "started", "failed"]
    assert story.code == "function_failed"
    assert story.end["error"]["message"] == ("The function of the kind steps failed; the worker's log has the reason.")
    assert letter.status == 200
    assert "secret" not in letter.body.decode()


async def test_a_function_may_ask_for_another_attempt_or_end_its_job(system: System) -> None:
    later = await stream(system, await system.submit(doing("later")))
    refused = await system.story(await system.submit(doing("refuse")))

    assert [name for name, _, _ in later] == ["queued", "started", "started", "step.done", "completed"]
    assert refused.types == ["queued", "started", "failed"]
    assert (refused.code, refused.end["error"]["message"]) == ("no_such_index", "There is no such index.")


@pytest.mark.parametrize(("step", "code"), [("set", "invalid_result"), ("reserved", "function_failed")])
async def test_a_result_that_is_not_json_and_a_reserved_event_fail(system: System, step: str, code: str) -> None:
    story = await system.story(await system.submit(doing(step)))

    assert story.code == code


async def test_a_function_that_takes_longer_than_its_kind_allows_fails(system: System) -> None:
    story = await system.story(await system.submit({"kind": "brief", "input": {"steps": []}}))

    assert (story.types[-1], story.code) == ("failed", "function_timeout")
    assert story.end["error"]["message"] == "The function of the kind brief took longer than 0.05 s."


async def test_a_cancellation_reaches_the_function_at_once_and_lets_it_clean_up(system: System) -> None:
    loop, took = asyncio.get_running_loop(), []
    for _ in range(3):
        job_id = await system.submit(doing("hang"))
        await system.until(job_id, EventType.PROGRESS, 1)
        asked_at = loop.time()
        cancelled = await system.cancel(job_id)
        events = await stream(system, job_id)

        assert cancelled["status"] == "cancelled"
        assert [name for name, _, _ in events] == ["queued", "started", "progress", "cancelled"]
        assert CLEANED_UP[job_id].cancelled
        took.append(CLEANED_UP[job_id].cancelled_at - asked_at)
    # The best of three: the machine may be busy with other tests.
    assert min(took) <= 0.05, took


@pytest.mark.parametrize(
    ("modules", "sentence"),
    [
        (("no_such_package.kinds",), r"^TAILRACE_KINDS names no_such_package\.kinds, which does not import: "),
        (("tests.support.docs",), r"^TAILRACE_KINDS names tests\.support\.docs, which must have a function"),
        (("tests.support.own_kinds", "tests.support.own_kinds_again"), r"^Two kinds are named steps"),
    ],
)
async def test_a_module_that_is_unfit_is_refused_at_the_start_of_both(
    settings: Settings, modules: tuple[str, ...], sentence: str
) -> None:
    changed = settings.model_copy(update={"kinds": modules})
    with pytest.raises(StartupError, match=sentence):
        async with running_gateway(changed):
            raise AssertionError("It started.")
    with pytest.raises(StartupError, match=sentence):
        async with running_worker(changed):
            raise AssertionError("It started.")


async def test_a_worker_that_stops_hands_a_function_without_a_time_of_its_own_on(settings: Settings) -> None:
    changed = settings.model_copy(update={"kinds": KINDS, "drain_s": 0.1})
    async with running_system(changed) as system:
        async with running_worker(changed):
            job_id = await system.submit(doing("hang"))
            await system.until(job_id, EventType.PROGRESS)
        handed_on = await system.job(job_id)

    assert handed_on.status is State.RUNNING
    assert [each.error and each.error["code"] for each in handed_on.executions] == ["drain"]


async def test_a_function_that_holds_up_the_event_loop_is_named_in_the_log(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_function, "BLOCKED_S", 0.02)
    with captured_logs() as logs:
        await system.story(await system.submit({"kind": "block", "input": {"steps": ["one", "two"]}}))

    named = logs.named("function.blocked_the_loop")
    assert [line["kind"] for line in named] == ["block", "block"]
    assert all(line["took_s"] >= 0.02 for line in named)
