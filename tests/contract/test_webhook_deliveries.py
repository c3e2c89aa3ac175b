"""Keep the open deliveries of webhooks in Redis, and attempt them side by side."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from shared.model.metrics import Metrics
from shared.model.webhooks.delivery import Delivery, DeliveryStatus
from shared.process.clock import SystemClock
from shared.store.webhook_deliveries import CLAIM_S, DeliveryQueue
from shared.store.webhook_secrets import WebhookSecrets
from tests.support.core import TIMEOUT_S, Core, Watched, captured_logs
from worker.model.receiver_circuits import FAILURES, SLOTS
from worker.model.webhook_attempt import ATTEMPTS, Attempted
from worker.webhooks.deliveries import WebhookDeliveries

SILENT, BUSY, GOOD = "http://silent.example/", "http://busy.example/", "http://good.example/"
FIRST = Delivery("wh_1", "alice", "job_1", "job.completed", GOOD, "{}")


@pytest.fixture
def queue(core: Core) -> DeliveryQueue:
    return DeliveryQueue(core.client, core.keys)


class RecordedSender:
    """Records the URLs it is to call; a silent receiver never answers, a busy one fails, the others answer with
    `status`."""

    def __init__(self, status: int = 200) -> None:
        self.urls: list[str] = []
        self._status = status
        self._changed = Watched()

    async def send(self, url: str, body: bytes, headers: Mapping[str, str]) -> Attempted:
        self.urls.append(url)
        self._changed.change()
        if url == SILENT:
            await asyncio.Event().wait()
        return Attempted(503 if url == BUSY else self._status)

    async def called(self, url: str, times: int = 1) -> None:
        await self._changed.until(lambda: self.urls.count(url) >= times)


@asynccontextmanager
async def delivering(core: Core, queue: DeliveryQueue, sender: RecordedSender) -> AsyncIterator[WebhookDeliveries]:
    secrets = WebhookSecrets(core.client, core.keys)
    deliveries = WebhookDeliveries(queue, secrets, sender, SystemClock(), Metrics(), lambda: 0.0)
    running = asyncio.create_task(deliveries.run())
    try:
        yield deliveries
    finally:
        running.cancel()
        await asyncio.wait([running])


async def ended(core: Core, delivery: Delivery) -> Delivery:
    """Wait until no attempt follows; return the delivery as it is stored."""
    async with asyncio.timeout(TIMEOUT_S):
        while await core.client.zscore(core.keys.webhooks_due, delivery.id) is not None:
            pass
    stored = await core.client.get(core.keys.webhook_delivery(delivery.id))
    assert stored is not None
    return Delivery.decode(stored)


async def test_a_delivery_is_due_from_its_time_on(queue: DeliveryQueue) -> None:
    await queue.add(FIRST, 100)
    assert await queue.due(99, 10) == []
    assert await queue.due(100, 10) == [FIRST]


async def test_only_one_worker_gets_a_delivery_and_it_is_due_again_after_the_claim(queue: DeliveryQueue) -> None:
    await queue.add(FIRST, 100)
    assert await queue.claim(FIRST.id, 200) == FIRST
    assert await queue.claim(FIRST.id, 200) is None
    behind = 200 + int(CLAIM_S * 1000)
    assert await queue.due(behind - 1, 10) == []
    assert await queue.due(behind, 10) == [FIRST]
    assert await queue.claim(FIRST.id, behind) is None  # the first claim has not expired by the server's clock


async def test_a_delivery_that_was_put_off_since_it_was_read_is_not_claimed(queue: DeliveryQueue) -> None:
    await queue.add(FIRST, 100)
    await queue.retry(replace(FIRST, attempts=1), 500)
    assert await queue.claim(FIRST.id, 499) is None
    assert await queue.claim(FIRST.id, 500) == replace(FIRST, attempts=1)


async def test_putting_off_never_brings_a_delivery_forward(queue: DeliveryQueue) -> None:
    await queue.add(FIRST, 500)
    await queue.put_off([FIRST.id, "wh_unknown"], 300)
    assert await queue.due(499, 10) == []
    await queue.put_off([FIRST.id], 700)
    assert await queue.due(699, 10) == []
    assert await queue.due(700, 10) == [FIRST]


async def test_a_repeated_completion_does_not_open_an_ended_delivery(core: Core, queue: DeliveryQueue) -> None:
    await queue.add(FIRST, 100)
    await queue.end(replace(FIRST, status=DeliveryStatus.DELIVERED))
    await queue.add(FIRST, 100)
    assert await queue.claim(FIRST.id, 200) is None
    await queue.add(FIRST, 100)
    assert await queue.due(200, 10) == []
    assert await core.client.zcard(core.keys.webhooks_due) == 0


async def test_receivers_that_do_not_answer_hold_back_no_other_one(core: Core, queue: DeliveryQueue) -> None:
    for number in range(110):
        await queue.add(replace(FIRST, id=f"wh_silent_{number}", url=SILENT), 1)
    sender = RecordedSender()
    async with delivering(core, queue, sender) as deliveries:
        await deliveries.add(FIRST, 2)
        await sender.called(GOOD)
        assert (await ended(core, FIRST)).status is DeliveryStatus.DELIVERED

    assert sender.urls.count(SILENT) == 4


@pytest.mark.parametrize(("status", "attempts", "gone"), [(410, 0, True), (500, ATTEMPTS - 1, False)])
async def test_a_dead_delivery_is_logged(
    core: Core, queue: DeliveryQueue, status: int, attempts: int, gone: bool
) -> None:
    with captured_logs() as logs:
        async with delivering(core, queue, RecordedSender(status)) as deliveries:
            await deliveries.add(replace(FIRST, attempts=attempts), 1)
            dead = await ended(core, FIRST)
            await logs.wait_for("webhook.dead")

    assert (dead.status, dead.attempts) == (DeliveryStatus.DEAD, attempts + 1)
    (line,) = logs.named("webhook.dead")
    assert (line["delivery"], line["job"], line["gone"]) == (FIRST.id, FIRST.job, gone)


async def test_a_receiver_that_keeps_failing_is_not_called_again_at_once(core: Core, queue: DeliveryQueue) -> None:
    for number in range(40):
        await queue.add(replace(FIRST, id=f"wh_busy_{number}", url=BUSY), 1)
    sender = RecordedSender()
    async with delivering(core, queue, sender) as deliveries:
        await sender.called(BUSY, FAILURES)
        # A new delivery makes the worker look at all that are due.
        await deliveries.add(FIRST, 2)
        assert (await ended(core, FIRST)).status is DeliveryStatus.DELIVERED

    # Attempts that were under way when the circuit opened are made to their end.
    assert sender.urls.count(BUSY) < FAILURES + SLOTS
