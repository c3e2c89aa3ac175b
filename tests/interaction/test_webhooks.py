"""Deliver the webhooks of jobs: whatever ends the job, whichever worker is killed meanwhile."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from openai import OpenAI

from shared.config.settings import Settings
from shared.model.webhooks.delivery import Delivery
from shared.store.webhook_deliveries import DeliveryQueue
from tests.support.controlled_provider import ControlledProvider, controlled_upstream
from tests.support.core import TIMEOUT_S
from tests.support.processes import Processes
from tests.support.system import System, running_system, running_worker
from tests.support.webhook_receiver import ReceivedAttempt, webhook_receiver

pytestmark = pytest.mark.usefixtures("an_old_server")


@pytest.fixture
async def system(settings: Settings) -> AsyncIterator[System]:
    """Start a gateway whose webhooks may call this machine."""
    async with running_system(settings.model_copy(update={"webhook_allow": ("127.0.0.0/8",)})) as opened:
        yield opened


def deliveries(system: System) -> DeliveryQueue:
    return DeliveryQueue(system.core.client, system.core.keys)


async def delivered(system: System) -> None:
    """Let each delivery be due at once, until none is open."""
    client, keys = system.core.client, system.core.keys
    async with asyncio.timeout(6 * TIMEOUT_S):
        while waiting := await client.zrange(keys.webhooks_due, 0, -1):
            await client.zadd(keys.webhooks_due, dict.fromkeys(waiting, 0), xx=True)


async def secret_of(system: System) -> str:
    answer = await system.client.get("/v1/webhook_secret")
    secret: str = answer.json()["secret"]
    return secret


def unwrapped(attempt: ReceivedAttempt, secret: str) -> tuple[str, str]:
    """Return the type and the subject of an event that OpenAI's client has verified."""
    event = OpenAI(api_key="unused").webhooks.unwrap(attempt.body, attempt.headers, secret=secret)
    return event.type, event.data.id  # type: ignore[union-attr]


async def test_openais_client_verifies_the_event_of_a_job_that_completed(system: System) -> None:
    provider = ControlledProvider()
    async with webhook_receiver() as receiver, running_worker(system.settings, provider):
        job_id = await system.submit(webhook={"url": receiver.url})
        (await provider.call()).end()
        attempt = await receiver.received()
        assert (await system.job(job_id)).ended

        assert unwrapped(attempt, await secret_of(system)) == ("job.completed", job_id)
        await delivered(system)

    assert len(receiver.attempts) == 1


async def test_a_job_that_was_cancelled_before_a_worker_took_it_is_reported(system: System) -> None:
    async with webhook_receiver() as receiver:
        job_id = await system.submit(webhook={"url": receiver.url, "events": ["job.cancelled"]})
        await system.cancel(job_id)
        async with running_worker(system.settings, ControlledProvider()):
            attempt = await receiver.received()

    assert unwrapped(attempt, await secret_of(system)) == ("job.cancelled", job_id)


async def test_a_secret_belongs_to_one_tenant_and_stays(system: System) -> None:
    bob = (await system.client.as_("sk-bob").get("/v1/webhook_secret")).json()["secret"]
    assert await secret_of(system) == await secret_of(system) != bob


async def test_a_failed_attempt_is_repeated_with_the_same_id_and_body(system: System) -> None:
    provider = ControlledProvider()
    async with (
        webhook_receiver(lambda number, _: "500 No" if number == 1 else "200 OK") as receiver,
        running_worker(system.settings, provider),
    ):
        await system.submit(webhook={"url": receiver.url})
        (await provider.call()).end()
        await receiver.received()
        await delivered(system)

    first, second = receiver.attempts
    assert (first.id, first.body) == (second.id, second.body)


async def test_a_receiver_that_is_gone_gets_no_second_attempt(system: System) -> None:
    provider = ControlledProvider()
    async with (
        webhook_receiver(lambda _, __: "410 Gone") as receiver,
        running_worker(system.settings, provider),
    ):
        await system.submit(webhook={"url": receiver.url})
        (await provider.call()).end()
        await receiver.received()
        await delivered(system)

    assert len(receiver.attempts) == 1


async def test_none_of_200_deliveries_is_lost_by_a_receiver_that_fails_one_in_three(system: System) -> None:
    accepted: list[str] = []

    def answer(number: int, attempt: ReceivedAttempt) -> str:
        if number % 3 == 0:
            return "503 Busy"
        accepted.append(attempt.id)
        return "200 OK"

    async with webhook_receiver(answer) as receiver:
        ids = [f"wh_{number}" for number in range(200)]
        for each in ids:
            delivery = Delivery(each, "alice", "job_1", "job.completed", receiver.url, "{}")
            await deliveries(system).add(delivery, int(time.time() * 1000))
        async with running_worker(system.settings, ControlledProvider()):
            await delivered(system)

    assert sorted(accepted) == sorted(ids)


@pytest.mark.parametrize(
    ("step", "least"),
    [
        ("worker.execution.completion:CompletionSteps.run", 0),
        ("worker.webhooks.deliveries:WebhookDeliveries.add", 0),
        ("shared.store.queue:Queue.done", 0),
        ("shared.store.webhook_deliveries:DeliveryQueue.claim", 0),
        ("worker.webhooks.sender:WebhookSender.send", 0),
        ("shared.store.webhook_deliveries:DeliveryQueue.end", 1),
    ],
)
async def test_a_webhook_survives_a_worker_that_is_killed_at_any_step(system: System, step: str, least: int) -> None:
    async with (
        webhook_receiver() as receiver,
        controlled_upstream() as (provider, url),
        Processes(system.settings) as processes,
    ):
        doomed = await processes.doomed_worker(step, upstream_url=url)
        job_id = await system.submit(webhook={"url": receiver.url})
        (await provider.call()).end()
        await doomed.died()
        assert len(receiver.attempts) >= least
        # The claim of the killed worker expires.
        bare = job_id.removeprefix("job_")
        await system.core.client.delete(system.core.keys.webhook_claim(f"wh_{bare}"))
        async with running_worker(system.settings, ControlledProvider()):
            async with asyncio.timeout(4 * TIMEOUT_S):
                while await system.queue_keys(job_id):
                    pass
            await delivered(system)

    assert {attempt.id for attempt in receiver.attempts} == {f"wh_{bare}"}
    assert len({attempt.body for attempt in receiver.attempts}) == 1
