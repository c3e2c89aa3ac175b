"""Define every metric of Tailrace, each once, and the cells in which a process counts.

A cell is a plain object: counting is an addition, observing a bisection and two additions; a frequent user stores the
cell. Nothing is encoded before the samples are read. Label values come from bounded sets (lanes, routes, providers,
codes of shared/model/errors), never from a caller. If no metrics are wanted, use a `Metrics` that is never read. A
silent one does not even count: the cost of counting is measured against it. Pure. Not here: the samples of all
processes (shared/store/fleet_metrics.py), and their text format (gateway/http/scrape.py).
"""

import json
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic, NamedTuple, Protocol, TypeVar

# Upper bounds of buckets, in seconds. A bucket costs one series for each process, so that there are few.
_FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
_TOKENS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)
_ANSWERS = (0.005, 0.01, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
_WAITS = (0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0)


class Kind(Enum):
    """Name the type of a metric (Prometheus, metric types)."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Family:
    """Define one metric. `bounds` are the upper bounds of a histogram's buckets; one more bucket has no bound."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()

    @property
    def size(self) -> int:
        """Return the number of numbers in a sample."""
        return len(self.bounds) + 2 if self.kind is Kind.HISTOGRAM else 1


class Sample(NamedTuple):
    """Hold one series' numbers: its value; of a histogram, each bucket's own count, then the sum."""

    labels: tuple[str, ...]
    numbers: tuple[float, ...]


Samples = Mapping[str, Sequence[Sample]]
"""Families' names, and their samples."""


class Count:
    """Count in a counter's cell."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def add(self, amount: float = 1) -> None:
        """Add an amount."""
        self.value += amount

    def numbers(self) -> tuple[float, ...]:
        """Return the value."""
        return (self.value,)


class Reading:
    """Read a gauge when its samples are read, so that no code has to update it."""

    __slots__ = ("read",)

    def __init__(self) -> None:
        self.read: Callable[[], float] = float

    def numbers(self) -> tuple[float, ...]:
        """Return the current value."""
        return (float(self.read()),)


class Buckets:
    """Count in a histogram's cell."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value in its bucket."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def numbers(self) -> tuple[float, ...]:
        """Return each bucket's own count, and the sum."""
        return (*self._counts, self._sum)


class _SilentCount(Count):
    __slots__ = ()

    def add(self, amount: float = 1) -> None:
        """Do nothing."""


class _SilentBuckets(Buckets):
    __slots__ = ()

    def observe(self, value: float) -> None:
        """Do nothing."""


class Cell(Protocol):
    """Define the cell of one series in this process."""

    def numbers(self) -> tuple[float, ...]:
        """Return the numbers of a `Sample`."""
        ...


C = TypeVar("C", bound=Cell)


class Cells(Generic[C]):
    """Hold a metric's cells in this process, one for each set of labels."""

    def __init__(self, family: Family, make: Callable[[], C]) -> None:
        self.family = family
        self._make = make
        self._cells: dict[tuple[str, ...], C] = {}

    def of(self, *labels: str) -> C:
        """Return the cell of these labels. Its first use creates the series; that of a counter starts at 0."""
        if (cell := self._cells.get(labels)) is None:
            if len(labels) != len(self.family.labels):
                raise TypeError(f"{self.family.name} has the labels {self.family.labels}, not {labels}.")
            cell = self._cells[labels] = self._make()
        return cell

    def samples(self) -> list[Sample]:
        """Return the current samples of the cells."""
        return [Sample(labels, cell.numbers()) for labels, cell in self._cells.items()]


class _MetricRegistry:
    """Hold the metrics that a class defines, in their order."""

    def __init__(self, *, silent: bool = False) -> None:
        self._count, self._buckets = (_SilentCount, _SilentBuckets) if silent else (Count, Buckets)
        self._all: list[Cells[Count] | Cells[Reading] | Cells[Buckets]] = []

    @property
    def families(self) -> list[Family]:
        """Return all families."""
        return [cells.family for cells in self._all]

    def samples(self) -> Samples:
        """Return the samples of all metrics."""
        return {cells.family.name: found for cells in self._all if (found := cells.samples())}

    def _counter(self, name: str, text: str, *labels: str) -> Cells[Count]:
        cells = Cells(Family(name, Kind.COUNTER, text, labels), self._count)
        self._all.append(cells)
        return cells

    def _gauge(self, name: str, text: str, *labels: str) -> Cells[Reading]:
        cells = Cells(Family(name, Kind.GAUGE, text, labels), Reading)
        self._all.append(cells)
        return cells

    def _histogram(self, name: str, text: str, bounds: tuple[float, ...], *labels: str) -> Cells[Buckets]:
        cells = Cells(Family(name, Kind.HISTOGRAM, text, labels, bounds), lambda: self._buckets(bounds))
        self._all.append(cells)
        return cells


class Metrics(_MetricRegistry):
    """Count in one process. Its series get the label `process` when they are shown. A silent one counts nothing."""

    def __init__(self, *, silent: bool = False) -> None:
        """Make a cell for each metric. It is as long as the table of metrics, which it is."""
        super().__init__(silent=silent)
        # The life of jobs; each step is counted once, by the process that made it.
        self.submitted = self._counter("tailrace_jobs_submitted_total", "jobs accepted", "lane")
        self.released = self._counter(
            "tailrace_jobs_released_total", "jobs that had waited for others, and wait for a worker now"
        )
        self.wait = self._histogram(
            "tailrace_job_wait_seconds", "from submit, or from its release, to the first start of a job", _WAITS, "lane"
        )
        self.executions = self._counter(
            "tailrace_executions_total", "executions begun; more than jobs are retries, hand-backs and lost workers"
        )
        self.rollbacks = self._counter(
            "tailrace_rollbacks_total", "executions that rolled back the deltas of an earlier one"
        )
        self.ended = self._counter(
            "tailrace_jobs_ended_total", "jobs ended, by status and error code (none when completed)", "status", "code"
        )
        self.dead_letters = self._counter(
            "tailrace_dead_letters_total", "jobs that became dead letters, by error code", "code"
        )
        self.tokens = self._counter(
            "tailrace_tokens_total", "tokens of ended jobs, as their usage says: prompt or completion", "type"
        )
        self.tokens_saved = self._counter(
            "tailrace_tokens_saved_total", "tokens that abandoned jobs would still have cost, as an estimate"
        )
        self.webhook_attempts = self._counter(
            "tailrace_webhook_attempts_total",
            "attempts to deliver a webhook, by what followed: delivered, retry or dead",
            "status",
        )
        # Providers.
        self.first_token = self._histogram(
            "tailrace_first_token_seconds", "from the start of an execution to its first delta", _ANSWERS, "provider"
        )
        self.gap = self._histogram(
            "tailrace_token_gap_seconds",
            "between two reads of a provider that brought deltas, back-pressure included",
            _TOKENS,
            "provider",
        )
        self.deltas = self._counter("tailrace_deltas_total", "deltas that providers sent", "provider")
        self.embedded = self._counter("tailrace_embedded_inputs_total", "inputs that providers embedded", "provider")
        self.provider_failures = self._counter(
            "tailrace_provider_failures_total",
            "attempts that failed because of their provider; refusals of a bad request do not count",
            "provider",
            "code",
        )
        self.circuits_open = self._gauge(
            "tailrace_circuits_open", "models of a provider whose circuit is open or half open", "provider"
        )
        self.calls = self._gauge(
            "tailrace_provider_calls", "calls that this process makes to a provider with a limit", "provider"
        )
        self.taken_back = self._counter(
            "tailrace_deltas_taken_back_total", "deltas that were rolled back, and then generated again"
        )
        # Redis.
        self.append = self._histogram(
            "tailrace_append_seconds", "from a flush of the pump to Redis' acknowledgement", _FAST
        )
        self.pump_bytes = self._gauge("tailrace_pump_waiting_bytes", "frames that wait for Redis")
        self.command = self._histogram(
            "tailrace_redis_command_seconds",
            "round trip of a command, the wait for a connection included; pipelines, pub/sub and appends are not",
            _FAST,
            "side",
        )
        self.feed_connects = self._counter(
            "tailrace_feed_connects_total", "connections of the live feed; each but the first is a reconnect"
        )
        self.feed_deaf = self._counter(
            "tailrace_feed_deaf_total",
            "live feeds that received nothing, as a tail check found, and that were connected again",
        )
        self.redis_unfit = self._gauge(
            "tailrace_redis_unfit", "1 while a server is a replica, evicts, or denies a right that is needed", "side"
        )
        # Bounds.
        self.refused = self._counter(
            "tailrace_refused_total",
            "requests refused by a bound, by its name; for `running`, times that a waiting job was passed over",
            "bound",
        )
        # Readers and callers.
        self.http = self._histogram(
            "tailrace_http_response_seconds",
            "from a request to the start of its answer (a stream's rest is its job's), by status class",
            _ANSWERS,
            "method",
            "route",
            "status",
        )
        self.readers = self._gauge("tailrace_readers", "readers connected, callers of chat completions included")
        self.viewers = self._gauge("tailrace_viewers", "readers that count as viewers of their jobs")
        self.resumes = self._counter("tailrace_reader_resumes_total", "readers that came back with a cursor")
        self.gaps = self._counter("tailrace_gaps_total", "`gap` frames sent to readers: events that the log has lost")
        self.frozen = self._counter("tailrace_readers_frozen_total", "readers disconnected because they read nothing")
        # The process.
        self.slots = self._gauge("tailrace_worker_slots", "jobs that a worker may run at once")
        self.slots_in_use = self._gauge("tailrace_worker_slots_in_use", "jobs that it runs")
        self.draining = self._gauge("tailrace_draining", "1 while the process is stopping")
        self.started = self._gauge("tailrace_process_start_time_seconds", "when it started, in Unix time")


class FleetMetrics(_MetricRegistry):
    """Hold the series that a scrape reads from Redis, which belong to no process. Shown without the label `process`."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = self._gauge("tailrace_lane_waiting_jobs", "jobs that are due and not taken", "lane")
        self.oldest = self._gauge(
            "tailrace_lane_oldest_age_seconds", "how long the first of them has been due; 0 if none waits", "lane"
        )
        self.open_dead_letters = self._gauge(
            "tailrace_dead_letters_open", "dead letters that are neither requeued nor deleted"
        )
        self.redis_up = self._gauge(
            "tailrace_redis_up",
            "1 if the queue's Redis answered this scrape; if 0, only the scraped gateway's series are here",
        )


def encode_samples(samples: Samples) -> bytes:
    """Encode samples for another process."""
    return json.dumps(samples, separators=(",", ":")).encode()


def decode_samples(raw: bytes, families: Sequence[Family]) -> Samples:
    """Decode samples; series of another version, which `families` do not define, are left out.

    Raises:
        ValueError: the bytes are not encoded samples.
    """
    found = json.loads(raw)
    if not isinstance(found, dict):
        raise ValueError("Samples are an object.")
    return {family.name: list(_decode(family, found.get(family.name, []))) for family in families}


def _decode(family: Family, found: object) -> Iterator[Sample]:
    for each in found if isinstance(found, list) else ():
        labels, numbers = each if isinstance(each, list) and len(each) == 2 else ((), ())
        if _fits(labels, str, len(family.labels)) and _fits(numbers, (int, float), family.size):
            yield Sample(tuple(labels), tuple(numbers))


def _fits(values: object, kind: type | tuple[type, ...], size: int) -> bool:
    return isinstance(values, list) and len(values) == size and all(isinstance(value, kind) for value in values)
