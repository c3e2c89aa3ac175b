"""Test the completion steps of every job: a job that failed becomes a dead letter, and each job leaves the queue."""

from dataclasses import replace
from typing import cast

import pytest

from shared.model.ended_job import EndedJob, JobTimes
from shared.model.lifecycle import TERMINAL, State
from shared.model.metrics import Metrics
from shared.model.parents import ParentEnd
from shared.model.webhooks.delivery import Delivery, delivery_of
from shared.model.webhooks.event import JOB_EVENTS
from shared.model.webhooks.job_webhook import JobWebhook
from shared.store.dead_letters import DeadLetters, NewDeadLetter
from shared.store.queue import Queue
from tests.support.core import captured_logs
from worker.execution.steps import AddDeadLetter, AddWebhookDelivery, LogEnd, RemoveQueueEntry, SettleChildren

LETTER = NewDeadLetter("job", "alice", "low", "server_error", 2)


def job(status: State) -> EndedJob:
    return EndedJob("job", "alice", "low", "chat", "a-model", status, 2, None, "server_error")


class Letters:
    """Answer that a job is a new dead letter, or None."""

    def __init__(self, answer: NewDeadLetter | None) -> None:
        self.answer = answer
        self.added: list[str] = []

    async def add(self, job_id: str) -> NewDeadLetter | None:
        self.added.append(job_id)
        return self.answer


def counted(metrics: Metrics) -> float:
    return sum(sum(sample.numbers) for sample in metrics.samples().get("tailrace_dead_letters_total", []))


@pytest.mark.parametrize("status", sorted(TERMINAL - {State.FAILED}))
async def test_only_a_failed_job_is_added_to_the_dead_letters(status: State) -> None:
    letters = Letters(LETTER)

    await AddDeadLetter(cast(DeadLetters, letters), Metrics()).run(job(status))

    assert letters.added == []


async def test_a_new_dead_letter_is_counted_and_logged() -> None:
    letters, metrics = Letters(LETTER), Metrics()

    with captured_logs() as logs:
        await AddDeadLetter(cast(DeadLetters, letters), metrics).run(job(State.FAILED))

    about = {"job": "job", "code": "server_error", "tenant": "alice", "lane": "low", "attempts": 2}
    assert logs.named("job.dead_letter") == [{"event": "job.dead_letter", **about}]
    assert (letters.added, counted(metrics)) == (["job"], 1)


async def test_a_dead_letter_that_is_not_new_is_neither_counted_nor_logged() -> None:
    letters, metrics = Letters(None), Metrics()

    with captured_logs() as logs:
        await AddDeadLetter(cast(DeadLetters, letters), metrics).run(job(State.FAILED))

    assert (logs.named("job.dead_letter"), counted(metrics)) == ([], 0)


async def test_an_end_is_one_line_with_all_facts() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 5}
    times = JobTimes(created_ms=1_000, started_ms=1_100, first_token_ms=1_350, ended_ms=2_100)
    ended = EndedJob("job", "alice", "low", "chat", "m", State.COMPLETED, 2, usage, "", "openai", "req_1", times)
    step = LogEnd()

    with captured_logs() as logs:
        await step.run(ended)
        await step.run(ended)

    assert logs.named("job.ended") == [
        {
            "event": "job.ended",
            "request": "req_1",
            "job": "job",
            "tenant": "alice",
            "lane": "low",
            "kind": "chat",
            "model": "m",
            "provider": "openai",
            "status": "completed",
            "code": None,
            "attempts": 2,
            "input_tokens": 3,
            "output_tokens": 5,
            "waited_s": 0.1,
            "first_token_s": 0.35,
            "ran_s": 1.0,
        }
    ]


async def test_an_end_without_tokens_request_and_provider_logs_null() -> None:
    with captured_logs() as logs:
        await LogEnd().run(job(State.CANCELLED))

    (line,) = logs.named("job.ended")
    assert [line[name] for name in ("request", "provider", "input_tokens", "output_tokens", "ran_s")] == [None] * 5
    assert (line["status"], line["code"]) == ("cancelled", "server_error")


async def test_the_queue_entry_is_removed_from_the_lane_of_the_job() -> None:
    removed: list[tuple[str, str]] = []

    class Entries:
        async def done(self, job_id: str, lane: str) -> None:
            removed.append((job_id, lane))

    await RemoveQueueEntry(cast(Queue, Entries())).run(job(State.COMPLETED))

    assert removed == [("job", "low")]


class Settled:
    """Record the jobs whose children are settled."""

    def __init__(self) -> None:
        self.parents: list[tuple[str, ParentEnd]] = []

    async def settle_children(self, parent_id: str, end: ParentEnd) -> None:
        self.parents.append((parent_id, end))


@pytest.mark.parametrize("status", sorted(TERMINAL))
async def test_the_children_of_a_job_get_its_end(status: State) -> None:
    settled, end = Settled(), ParentEnd.COMPLETED if status is State.COMPLETED else ParentEnd.FAILED

    await SettleChildren(settled).run(replace(job(status), has_children=True))

    assert settled.parents == [("job", end)]


async def test_a_job_without_children_costs_no_call() -> None:
    settled = Settled()

    await SettleChildren(settled).run(job(State.COMPLETED))

    assert settled.parents == []


class DeliveryList:
    """Record the deliveries that are added, with the times at which they are due."""

    def __init__(self) -> None:
        self.added: list[tuple[Delivery, int]] = []

    async def add(self, delivery: Delivery, due_ms: int) -> None:
        self.added.append((delivery, due_ms))


async def test_the_delivery_of_a_webhook_is_due_at_the_jobs_end() -> None:
    webhook = JobWebhook("https://hooks.example.com/x", JOB_EVENTS).encode()
    ended = replace(job(State.CANCELLED), times=JobTimes(ended_ms=7_000), webhook=webhook)
    deliveries = DeliveryList()

    await AddWebhookDelivery(deliveries).run(ended)

    assert deliveries.added == [(delivery_of(ended), 7_000)]


async def test_a_job_without_a_webhook_adds_no_delivery() -> None:
    deliveries = DeliveryList()

    await AddWebhookDelivery(deliveries).run(job(State.COMPLETED))

    assert deliveries.added == []
