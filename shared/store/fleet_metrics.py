"""The metrics of all processes: each publishes its own to Redis, so that any gateway can serve them all.

Workers have no port, and behind one address a scrape reaches any gateway. A process that has been silent for a while
has ended. Not here: the metrics (shared/model/metrics.py), and their display (gateway/http/scrape.py).
"""

import asyncio
import os
import secrets
import socket

from redis.asyncio import Redis

from shared.model.bounds import PROCESSES
from shared.model.metrics import Metrics, Samples, encode_samples
from shared.process.clock import Clock
from shared.store.client import REDIS_FAULTS, Functions, Outage
from shared.store.keys import Keys

PERIOD_S = 5.0
KEEP_S = 15.0
"""A process is shown for this long after it last said something."""

_LAST_WORDS_S = 1.0


class Fleet:
    """The published metrics of all processes."""

    def __init__(self, client: Redis, keys: Keys, *, keep_s: float = KEEP_S) -> None:
        self._client = client
        self._functions = Functions(client, keys)
        self._keys = keys
        self._keep_ms = int(keep_s * 1000)

    async def publish(self, process: str, samples: Samples) -> None:
        """Replace the samples of this process."""
        keys = [self._keys.processes, self._keys.metrics(process)]
        await self._functions.call("publish_metrics", keys, process, encode_samples(samples), self._keep_ms)

    async def published(self) -> dict[str, bytes]:
        """Encoded samples by process; of the first `PROCESSES`, should there be more."""
        names = await self._client.zrevrange(self._keys.processes, 0, PROCESSES - 1)
        processes = [name.decode() for name in names]
        if not processes:
            return {}
        found = await self._client.mget([self._keys.metrics(process) for process in processes])
        return {process: raw for process, raw in zip(processes, found, strict=True) if raw is not None}


class Publisher:
    """One process's own share: `gateway` or `worker` is its role."""

    def __init__(self, fleet: Fleet, metrics: Metrics, clock: Clock, role: str) -> None:
        self._fleet = fleet
        self._metrics = metrics
        # One at a time: older samples must not replace newer ones.
        self._publishing = asyncio.Lock()
        # Containers may share a host's name and their first process's id.
        self.process = f"{role}-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
        """The value of the label `process`."""
        started_at = clock.wall_ms() / 1000
        metrics.started.of().read = lambda: started_at

    def samples(self) -> Samples:
        """The publisher of this process's metrics."""
        return self._metrics.samples()

    async def publish(self) -> Samples:
        """Publish now; return the samples. Raises one of `REDIS_FAULTS`."""
        async with self._publishing:
            samples = self.samples()
            await self._fleet.publish(self.process, samples)
        return samples

    async def run(self) -> None:
        """Publish now and then, until cancelled."""
        outage = Outage("metrics.redis_lost", "metrics.redis_back")
        while True:
            try:
                await self.publish()
                outage.is_over()
            except REDIS_FAULTS as error:
                outage.continues(error)
            await asyncio.sleep(PERIOD_S)

    async def last_words(self) -> None:
        """Publish at shutdown, if Redis answers, so that the last samples can be scraped for a while."""
        try:
            async with asyncio.timeout(_LAST_WORDS_S):
                await self.publish()
        except REDIS_FAULTS:
            return  # the entry expires by itself
