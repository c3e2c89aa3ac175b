"""Answer `GET /metrics`: the series of all processes, in Prometheus's text format or in OpenMetrics.

The only importer of prometheus_client, of which it uses the encoders. A scrape publishes before it reads, so that no
later one, at any gateway, shows an earlier count: a counter that decreases would look like a restart. For the same
reason callers share only a scrape that began after they arrived: in each format one scrape is running, and all callers
that arrive meanwhile get the next. Not here: the metrics (shared/model/metrics.py).
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from itertools import accumulate

import structlog
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from shared.model.metrics import Family, FleetMetrics, Kind, Metrics, Sample, Samples, decode_samples
from shared.store.client import REDIS_FAULTS
from shared.store.dead_letters import DeadLetters
from shared.store.fleet_metrics import Fleet, Publisher
from shared.store.queue import Queue
from shared.store.refusals import name_of

log = structlog.get_logger()

_TIMEOUT_S = 2.0
_FAMILIES = Metrics().families


class Format(Enum):
    """Name a format that a scraper can get; the value selects it in the encoders."""

    TEXT = "text/plain"
    OPENMETRICS = "application/openmetrics-text"


@dataclass
class _Line:
    """Queue the callers of one format; `begun` counts the scrapes, `last` is the last one's answer."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    begun: int = 0
    last: tuple[bytes, str] | None = None


class Scrape:
    """Answer the scrapes of one gateway."""

    def __init__(
        self, publisher: Publisher, fleet: Fleet, queue: Queue, dead_letters: DeadLetters, lanes: Sequence[str]
    ) -> None:
        self._publisher = publisher
        self._fleet = fleet
        self._queue = queue
        self._dead_letters = dead_letters
        self._lanes = lanes
        self._lines = {each: _Line() for each in Format}

    async def answer(self, accept: str) -> tuple[bytes, str]:
        """Return body and content type for a caller that accepts `accept`; without Redis, of this process alone."""
        wanted = format_of(accept)
        line = self._lines[wanted]
        begun_before = line.begun
        async with line.turn:
            if line.last is None or line.begun == begun_before:
                line.begun, line.last = line.begun + 1, None
                line.last = await self._scrape(wanted)
            return line.last

    async def _scrape(self, wanted: Format) -> tuple[bytes, str]:
        whole = FleetMetrics()
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                own, published = await self._read(whole)
            up = 1
        except REDIS_FAULTS as error:
            log.info("scrape.without_redis", error=name_of(error))
            whole, own, published, up = FleetMetrics(), self._publisher.samples(), {}, 0
        if up:
            await self._read_dead_letters(whole)
        whole.redis_up.of().read = partial(float, up)
        # In a thread: the encoding of a large fleet would delay the streams' tokens.
        return await asyncio.to_thread(self._encode, wanted, whole, own, published)

    async def _read(self, whole: FleetMetrics) -> tuple[Samples, dict[str, bytes]]:
        own = await self._publisher.publish()
        for backlog in await self._queue.backlog(self._lanes):
            whole.waiting.of(backlog.lane).read = partial(float, backlog.jobs)
            whole.oldest.of(backlog.lane).read = partial(float, backlog.oldest_s)
        return own, await self._fleet.published()

    async def _read_dead_letters(self, whole: FleetMetrics) -> None:
        """Read the dead letters, apart from the rest: they are stored with the jobs, maybe on another server."""
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                whole.open_dead_letters.of().read = partial(float, await self._dead_letters.open())
        except REDIS_FAULTS as error:
            log.info("scrape.without_dead_letters", error=name_of(error))

    def _encode(
        self, wanted: Format, whole: FleetMetrics, own: Samples, published: Mapping[str, bytes]
    ) -> tuple[bytes, str]:
        processes = {**readable(published), self._publisher.process: own}
        return encode([*shown(whole.families, whole.samples()), *merged(processes)], wanted)


def readable(published: Mapping[str, bytes]) -> dict[str, Samples]:
    """Decode the samples of each process, without those that can't be read."""
    found: dict[str, Samples] = {}
    for process, raw in published.items():
        try:
            found[process] = decode_samples(raw, _FAMILIES)
        except ValueError:
            log.warning("scrape.unreadable", process=process)
    return found


def merged(processes: Mapping[str, Samples]) -> Iterator[Metric]:
    """Build each metric once, with the series of all processes."""
    for family in _FAMILIES:
        metric = _metric(family)
        for process in sorted(processes):
            _add(metric, family, processes[process].get(family.name, ()), {"process": process})
        yield metric


def shown(families: Iterable[Family], samples: Samples) -> Iterator[Metric]:
    """Build each metric, with series that belong to no process."""
    for family in families:
        metric = _metric(family)
        _add(metric, family, samples.get(family.name, ()), {})
        yield metric


def _metric(family: Family) -> Metric:
    # OpenMetrics names a counter without the suffix that its samples have.
    name = family.name.removesuffix("_total") if family.kind is Kind.COUNTER else family.name
    return Metric(name, family.help, family.kind.value)


def _add(metric: Metric, family: Family, samples: Iterable[Sample], extra: Mapping[str, str]) -> None:
    for sample in samples:
        labels = {**dict(zip(family.labels, sample.labels, strict=True)), **extra}
        if family.kind is not Kind.HISTOGRAM:
            metric.add_sample(family.name, labels, sample.numbers[0])
            continue
        *counts, total = sample.numbers
        for bound, count in zip((*family.bounds, "+Inf"), accumulate(counts), strict=True):
            metric.add_sample(f"{family.name}_bucket", {**labels, "le": str(bound)}, count)
        metric.add_sample(f"{family.name}_count", labels, sum(counts))
        metric.add_sample(f"{family.name}_sum", labels, total)


class _Ready(Collector):
    """Collect metrics that are already built."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def format_of(accept: str) -> Format:
    """Choose the format that a scraper requests (`Accept`), in its oldest version, which all of them read."""
    try:
        _, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # it requests a version that is not a number
        return Format.TEXT
    return Format.OPENMETRICS if content_type.startswith(Format.OPENMETRICS.value) else Format.TEXT


def encode(metrics: Iterable[Metric], wanted: Format) -> tuple[bytes, str]:
    """Encode metrics in this format; return them with its content type."""
    encoder, content_type = choose_encoder(wanted.value)
    return encoder(_Ready(metrics)), content_type
