"""A circuit breaker: whether a provider's model is asked, judged by how its last calls went.

    closed    calls are made; too large a share of failures within the window opens it
    open      no call is made until its pause is over
    half-open a few trial calls are made: a success closes it, a failure opens it anew, for twice as long

(M. Nygard, Release It!, "Circuit Breaker".) A circuit is a value that can be told to another process; times are
milliseconds since the Unix epoch and come in as arguments. Above: breakers.py, which shares circuits. Pure. Not here:
what counts as a failure (retry.py).
"""

import json
from dataclasses import asdict, dataclass, replace
from enum import StrEnum


class State(StrEnum):
    """What a circuit lets through."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class Policy:
    """When a circuit opens, and for how long.

    It opens where of at least `min_calls` calls within `window_ms` a share of `failure_ratio` failed, for `open_ms`;
    each failed trial doubles that, up to `open_most_ms`. `probes` trial calls may be made at once; one that says
    nothing for `probe_ms` (its worker died) gives its place back.
    """

    window_ms: int = 30_000
    buckets: int = 6
    min_calls: int = 10
    failure_ratio: float = 0.5
    open_ms: int = 15_000
    open_most_ms: int = 120_000
    probes: int = 1
    probe_ms: int = 30_000

    @property
    def bucket_ms(self) -> int:
        """The window's smallest piece."""
        return self.window_ms // self.buckets


@dataclass(frozen=True, slots=True)
class Circuit:
    """One provider's model. `counts` holds (bucket, calls, failures); `probes` when each trial call's time is over.

    `opened_ms` is None for a closed circuit; `reopened` is how many trials have failed in a row.
    """

    counts: tuple[tuple[int, int, int], ...] = ()
    opened_ms: int | None = None
    reopened: int = 0
    probes: tuple[int, ...] = ()

    def dump(self) -> bytes:
        """As text, for another process."""
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def load(cls, raw: bytes) -> "Circuit":
        """The inverse of `dump`."""
        fields = json.loads(raw)
        counts = tuple((bucket, calls, failures) for bucket, calls, failures in fields["counts"])
        return cls(counts, fields["opened_ms"], fields["reopened"], tuple(fields["probes"]))


CLOSED = Circuit()


def state_of(circuit: Circuit, now_ms: int, policy: Policy) -> State:
    """What the circuit lets through now."""
    if circuit.opened_ms is None:
        return State.CLOSED
    return State.OPEN if now_ms < retry_at_ms(circuit, policy) else State.HALF_OPEN


def retry_at_ms(circuit: Circuit, policy: Policy) -> int:
    """When an open circuit lets the first trial call through."""
    pause_ms = min(policy.open_ms << min(circuit.reopened, 20), policy.open_most_ms)
    return (circuit.opened_ms or 0) + pause_ms


def probed(circuit: Circuit, now_ms: int, policy: Policy) -> Circuit | None:
    """A half-open circuit with one more trial call under way; None if there are enough."""
    running = tuple(until for until in circuit.probes if until > now_ms)
    if len(running) >= policy.probes:
        return None
    return replace(circuit, probes=(*running, now_ms + policy.probe_ms))


def reported(circuit: Circuit, successes: int, failures: int, now_ms: int, policy: Policy) -> Circuit:
    """The circuit after so many calls have ended.

    While it is open nothing is learnt from them: they began before. While it is half-open a failure outweighs.
    """
    state = state_of(circuit, now_ms, policy)
    if state is State.OPEN or not successes + failures:
        return circuit
    if state is State.HALF_OPEN:
        return Circuit(opened_ms=now_ms, reopened=circuit.reopened + 1) if failures else CLOSED
    counts = _counted(circuit, successes + failures, failures, now_ms, policy)
    calls, failed = sum(each[1] for each in counts), sum(each[2] for each in counts)
    if calls >= policy.min_calls and failed >= calls * policy.failure_ratio:
        return Circuit(opened_ms=now_ms)
    return Circuit(counts)


def is_idle(circuit: Circuit, now_ms: int, policy: Policy) -> bool:
    """Whether it need not be kept: nothing was reported within the window, or it could be tried for so long."""
    if circuit.opened_ms is not None:
        return now_ms >= retry_at_ms(circuit, policy) + policy.window_ms
    return all(bucket <= now_ms // policy.bucket_ms - policy.buckets for bucket, _, _ in circuit.counts)


def _counted(
    circuit: Circuit, calls: int, failures: int, now_ms: int, policy: Policy
) -> tuple[tuple[int, int, int], ...]:
    bucket = now_ms // policy.bucket_ms
    counts = {each[0]: each for each in circuit.counts if each[0] > bucket - policy.buckets}
    _, former_calls, former_failures = counts.get(bucket, (bucket, 0, 0))
    counts[bucket] = (bucket, former_calls + calls, former_failures + failures)
    return tuple(counts[each] for each in sorted(counts))
