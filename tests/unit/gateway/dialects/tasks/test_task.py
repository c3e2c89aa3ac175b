"""Test the form of a task: the status and the progress of a job for callers that poll."""

import json
import struct
from dataclasses import replace
from typing import Any

import pytest

from gateway.dialects.embeddings import EmbeddingList, Encoding
from gateway.dialects.tasks.status import TaskStatus
from gateway.dialects.tasks.task import NestedList, has_part, show_task
from shared.model.events import EventId
from shared.model.job_progress import progress_of
from shared.model.jobs import Embedded, Job, OnDisconnect, new_job_id
from shared.model.kinds import CHAT, EMBEDDINGS
from shared.model.lifecycle import State

ADDRESS = "/tasks/1"
QUEUED, BEGUN, TEXT = EventId(0, 1), EventId(1, 1), EventId(1, 2)
CHAT_JOB = Job(
    id=new_job_id(1, 1),
    kind=CHAT,
    tenant="alice",
    lane="default",
    model="m",
    status=State.QUEUED,
    last=QUEUED,
    attempts=0,
    created_ms=1,
    started_ms=0,
    ended_ms=0,
    deadline_ms=2,
    abandon_ms=0,
    on_disconnect=OnDisconnect.CONTINUE,
    metadata={},
    outcome={},
)


def made(done: int, total: int = 4) -> Embedded:
    return Embedded("m", done, total, dimensions=1, prompt_tokens=3, source="upstream", sha256="")


def embeddings(done: int | None, status: State = State.RUNNING) -> Job:
    return replace(CHAT_JOB, kind=EMBEDDINGS, status=status, embedded=None if done is None else made(done))


def shown(job: Job) -> dict[str, Any]:
    """Show a job as a task, with the part of its result that its record says."""
    streams_text = job.kind == CHAT
    return show_task(job, ADDRESS, partial=has_part(job, streams_text=streams_text), streams_text=streams_text)


@pytest.mark.parametrize(
    ("job", "status"),
    [
        (CHAT_JOB, TaskStatus.PENDING),
        (replace(CHAT_JOB, status=State.WAITING), TaskStatus.PENDING),
        (replace(CHAT_JOB, status=State.RUNNING, last=BEGUN), TaskStatus.STARTED),
        (replace(CHAT_JOB, status=State.RUNNING, last=TEXT), TaskStatus.RUNNING),
        (replace(CHAT_JOB, status=State.CANCELLING, last=TEXT), TaskStatus.RUNNING),
        (replace(CHAT_JOB, status=State.COMPLETED, last=TEXT), TaskStatus.SUCCESS),
        (replace(CHAT_JOB, status=State.CANCELLED, last=TEXT), TaskStatus.CANCELLED),
        (embeddings(None), TaskStatus.STARTED),
        (embeddings(0), TaskStatus.STARTED),
        (embeddings(1), TaskStatus.RUNNING),
        (embeddings(4, State.COMPLETED), TaskStatus.SUCCESS),
        (embeddings(1, State.FAILED), TaskStatus.PARTIAL_SUCCESS),
        (embeddings(1, State.EXPIRED), TaskStatus.PARTIAL_SUCCESS),
        (embeddings(None, State.FAILED), TaskStatus.FAILURE),
        (embeddings(1, State.CANCELLED), TaskStatus.CANCELLED),
    ],
)
def test_each_status_of_a_job_has_one_of_a_task(job: Job, status: TaskStatus) -> None:
    assert shown(job)["status"] == status.value


@pytest.mark.parametrize(("partial", "status"), [(True, "PARTIAL_SUCCESS"), (False, "FAILURE")])
def test_a_failed_chat_is_a_partial_success_if_its_log_has_text(partial: bool, status: str) -> None:
    failed = replace(CHAT_JOB, status=State.FAILED, last=EventId(2, 9))

    assert show_task(failed, ADDRESS, partial=partial, streams_text=True)["status"] == status


def test_a_task_shows_the_progress_of_its_job() -> None:
    assert shown(embeddings(1))["progress"] == progress_of(embeddings(1), streams_text=False).as_dict()
    assert shown(replace(CHAT_JOB, status=State.RUNNING, last=TEXT))["progress"]["message"] == "1 token"


def test_a_task_has_its_addresses_and_its_error() -> None:
    error = {"code": "deadline_passed", "message": "…"}
    task = shown(replace(CHAT_JOB, status=State.EXPIRED, outcome={"error": error}))

    assert task["links"] == {"self": ADDRESS, "cancel": f"{ADDRESS}/cancel"}
    assert (task["task_id"], task["error"]) == (CHAT_JOB.id, error)


def test_a_list_of_embeddings_is_the_result_within_its_task() -> None:
    job = embeddings(2, State.COMPLETED)
    listed = NestedList(shown(job), EmbeddingList("m", made(2), Encoding.FLOAT))

    written = listed.opening + listed.items(struct.pack("<2f", 0.5, 1.0)) + listed.closing

    task = json.loads(written)
    assert task.keys() == {*shown(job), "result"}
    assert [each["embedding"] for each in task["result"]["data"]] == [[0.5], [1.0]]


def test_the_first_part_of_a_chat_comes_after_its_start() -> None:
    assert not has_part(replace(CHAT_JOB, last=BEGUN), streams_text=True)
    assert has_part(replace(CHAT_JOB, last=TEXT), streams_text=True)
