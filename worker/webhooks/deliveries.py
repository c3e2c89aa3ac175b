"""Deliver webhooks: claim what is due, make attempts side by side, and store what follows each.

Attempts have slots of their own, so that no job waits for a receiver. One receiver gets a part of them; its other
deliveries are put off if they hide those of others.
Not here: one attempt (sender.py), the schedule of attempts (worker/model/webhook_attempt.py), the list of open
deliveries (shared/store/webhook_deliveries.py).
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Final, Protocol
from urllib.parse import urlsplit

import structlog

from shared.model.metrics import Metrics
from shared.model.webhooks.delivery import Delivery, DeliveryStatus
from shared.model.webhooks.signature import signature_headers
from shared.process.clock import Clock
from shared.store.client import REDIS_FAULTS
from shared.store.webhook_deliveries import DeliveryQueue
from shared.store.webhook_secrets import WebhookSecrets
from worker.model.receiver_circuits import ReceiverCircuits
from worker.model.webhook_attempt import Attempted, Dead, Delivered, RetryIn, outcome_of

log = structlog.get_logger()

_SLOTS: Final = 16
_PAGE: Final = 100
_SWEEP_S: Final = 1.0
_PUT_OFF_MS: Final = 1_000


class Sender(Protocol):
    """Makes one attempt."""

    async def send(self, url: str, body: bytes, headers: Mapping[str, str]) -> Attempted:
        """Send the body; return the result."""


class WebhookDeliveries:
    """The attempts of this worker."""

    def __init__(
        self,
        queue: DeliveryQueue,
        secrets: WebhookSecrets,
        sender: Sender,
        clock: Clock,
        metrics: Metrics,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._queue = queue
        self._secrets = secrets
        self._sender = sender
        self._clock = clock
        self._metrics = metrics
        self._chance = chance
        self._changed = asyncio.Event()
        self._attempts: set[asyncio.Task[None]] = set()
        self._circuits = ReceiverCircuits()
        self._of_receiver: Counter[str] = Counter()

    async def add(self, delivery: Delivery, due_ms: int) -> None:
        """Store a delivery whose first attempt is due at this time; idempotent."""
        await self._queue.add(delivery, due_ms)
        self._changed.set()

    async def run(self) -> None:
        """Make the attempts that are due, for ever."""
        try:
            while True:
                # While Redis is away, the next sweep is as good: nothing is lost.
                with suppress(*REDIS_FAULTS):
                    await self._start_due()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_SWEEP_S):
                        await self._changed.wait()
                self._changed.clear()
        finally:
            for attempt in self._attempts:
                attempt.cancel()

    async def _start_due(self) -> None:
        now_ms, started, skipped = self._clock.wall_ms(), 0, list[str]()
        page = await self._queue.due(now_ms, _PAGE)
        for found in page:
            if len(self._attempts) >= _SLOTS:
                return
            receiver = urlsplit(found.url).netloc
            if self._of_receiver[receiver] >= self._circuits.slots(receiver, self._clock.monotonic()):
                skipped.append(found.id)
            elif (delivery := await self._queue.claim(found.id, now_ms)) is not None:
                self._start(delivery, receiver)
                started += 1
        if skipped and not started and len(page) == _PAGE:
            # Receivers that do not answer fill the page: those behind it must be found.
            await self._queue.put_off(skipped, now_ms + _PUT_OFF_MS)
            self._changed.set()

    def _start(self, delivery: Delivery, receiver: str) -> None:
        self._of_receiver[receiver] += 1
        attempt = asyncio.create_task(self._attempt(delivery, receiver))
        self._attempts.add(attempt)
        attempt.add_done_callback(self._attempts.discard)

    async def _attempt(self, delivery: Delivery, receiver: str) -> None:
        try:
            await self._deliver(delivery)
        except REDIS_FAULTS as error:
            # The claim expires, and the delivery is due again.
            log.warning("webhook.not_settled", delivery=delivery.id, error=type(error).__name__)
        except Exception:  # the top of an attempt: the delivery is due again, and the others continue
            log.exception("webhook.attempt_failed", delivery=delivery.id)
        finally:
            self._of_receiver[receiver] -= 1
            if not self._of_receiver[receiver]:
                del self._of_receiver[receiver]
            self._changed.set()

    async def _deliver(self, delivery: Delivery) -> None:
        secret, body = await self._secrets.of(delivery.tenant), delivery.body.encode()
        headers = signature_headers([secret], delivery.id, self._clock.wall_ms() // 1000, body)
        attempted = await self._sender.send(delivery.url, body, headers)
        self._circuits.record(urlsplit(delivery.url).netloc, attempted, self._clock.monotonic())
        made = replace(delivery, attempts=delivery.attempts + 1)
        match outcome_of(attempted, made.attempts, self._chance()):
            case Delivered():
                await self._queue.end(replace(made, status=DeliveryStatus.DELIVERED))
                self._metrics.webhook_attempts.of("delivered").add()
            case RetryIn(seconds):
                await self._queue.retry(made, self._clock.wall_ms() + int(seconds * 1000))
                self._metrics.webhook_attempts.of("retry").add()
            case Dead(gone):
                await self._queue.end(replace(made, status=DeliveryStatus.DEAD))
                self._metrics.webhook_attempts.of("dead").add()
                log.warning(
                    "webhook.dead",
                    delivery=made.id,
                    job=made.job,
                    tenant=made.tenant,
                    attempts=made.attempts,
                    gone=gone,
                )
