"""A circuit breaker: the decision whether to call a provider's model, by the results of its last calls.

    closed    calls are made; too large a share of failures within the window opens it
    open      no call is made until its pause is over
    half-open a few trial calls are made: a success closes it, a failure opens it anew, for twice as long

(M. Nygard, Release It!, "Circuit Breaker".) One group of callers, or one request, opens nothing alone: a failure
that it brings about by itself says nothing about the provider. A circuit is a value that another process can read;
times are milliseconds since the Unix epoch and come in as arguments. Pure. Not here: the meaning of a failure
(retry.py), the choice of groups, and the state shared with other workers (worker/upstream/breakers.py).
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import NamedTuple

from shared.model.bounds import BREAKER_FAILURES, BREAKER_GROUPS


class CircuitState(StrEnum):
    """The state of a circuit, which decides the calls that it permits."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class FailedCall(NamedTuple):
    """A call that failed: its group of callers, and its request, which counts once however often it was tried."""

    group: str
    request: str


@dataclass(frozen=True, slots=True)
class Policy:
    """The bounds at which a circuit opens, and the length of its pause.

    It opens if of at least `min_calls` calls within `window_ms` a share of `failure_ratio` failed, of two requests or
    more, and if the same share is true without any one of the groups. It stays open for `open_ms`; each failed trial
    doubles that, up to `open_most_ms`. `probes` trial calls may be made at once; one that is not reported within
    `probe_ms` (its worker died) makes room for another.
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
        """Return the length of the window's smallest piece."""
        return self.window_ms // self.buckets


@dataclass(frozen=True, slots=True)
class Circuit:
    """The circuit of one provider's model. `probes` holds the time at which each trial call expires.

    `counts` holds (bucket, group, calls, failures), of `BREAKER_GROUPS` groups a bucket at most. `blamed` holds
    (bucket, group, request) of the latest failures, `BREAKER_FAILURES` of them at most. `opened_ms` is None for a
    closed circuit; `reopened` counts the trials that failed in a row, and `failed_by` the callers of the last one.
    """

    counts: tuple[tuple[int, str, int, int], ...] = ()
    blamed: tuple[tuple[int, str, str], ...] = ()
    opened_ms: int | None = None
    reopened: int = 0
    failed_by: tuple[str, ...] = ()
    probes: tuple[int, ...] = ()

    def dump(self) -> bytes:
        """Return the circuit as text, for another process."""
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def load(cls, raw: bytes) -> "Circuit":
        """Read the text of `dump`."""
        fields = json.loads(raw)
        counts = tuple((bucket, group, calls, failures) for bucket, group, calls, failures in fields["counts"])
        blamed = tuple((bucket, group, request) for bucket, group, request in fields["blamed"])
        failed_by, probes = tuple(fields["failed_by"]), tuple(fields["probes"])
        return cls(counts, blamed, fields["opened_ms"], fields["reopened"], failed_by, probes)


CLOSED = Circuit()


def state_of(circuit: Circuit, now_ms: int, policy: Policy) -> CircuitState:
    """Return the state of the circuit now."""
    if circuit.opened_ms is None:
        return CircuitState.CLOSED
    return CircuitState.OPEN if now_ms < retry_at_ms(circuit, policy) else CircuitState.HALF_OPEN


def retry_at_ms(circuit: Circuit, policy: Policy) -> int:
    """Return the time at which an open circuit permits the first trial call."""
    return (circuit.opened_ms or 0) + _pause_ms(circuit, policy)


def probed(circuit: Circuit, call: FailedCall, now_ms: int, policy: Policy) -> Circuit | None:
    """Return a half-open circuit with one more trial under way; None if this call may not be one.

    The group or request that failed the last trial waits for another pause, so that others come first.
    """
    running = tuple(until for until in circuit.probes if until > now_ms)
    if len(running) >= policy.probes:
        return None
    if _name(call) in circuit.failed_by and now_ms < retry_at_ms(circuit, policy) + _pause_ms(circuit, policy):
        return None
    return replace(circuit, probes=(*running, now_ms + policy.probe_ms))


def given_back(circuit: Circuit) -> Circuit:
    """Return the circuit without one of its trial calls, which ended without a classification."""
    return replace(circuit, probes=circuit.probes[1:])


def reported(
    circuit: Circuit, successes: Mapping[str, int], failures: Sequence[FailedCall], now_ms: int, policy: Policy
) -> Circuit:
    """Return the circuit after so many calls of each group have succeeded and these have failed.

    An open circuit learns nothing from them: they began before. In a half-open one a failure outweighs successes. A
    trial that was let through counts, also if the clock was set back since and the pause is not over.
    """
    state = state_of(circuit, now_ms, policy)
    if not (successes or failures) or (state is CircuitState.OPEN and not circuit.probes):
        return circuit
    if state is not CircuitState.CLOSED:
        if not failures:
            return CLOSED
        failed_by = tuple(dict.fromkeys(map(_name, failures)))[:BREAKER_FAILURES]
        return Circuit(opened_ms=now_ms, reopened=circuit.reopened + 1, failed_by=failed_by)
    blamed, new = _blamed(circuit, failures, now_ms, policy)
    counts = _counted(circuit, successes, new, now_ms, policy)
    if len(blamed) > 1 and _is_sick(counts, policy):
        return Circuit(opened_ms=now_ms)
    return Circuit(counts, blamed)


def is_idle(circuit: Circuit, now_ms: int, policy: Policy) -> bool:
    """Return whether the circuit need not be stored: its window is empty, or a trial was possible for that long."""
    if circuit.opened_ms is not None:
        return now_ms >= retry_at_ms(circuit, policy) + policy.window_ms
    return all(bucket <= now_ms // policy.bucket_ms - policy.buckets for bucket, *_ in circuit.counts)


def _pause_ms(circuit: Circuit, policy: Policy) -> int:
    return min(policy.open_ms << min(circuit.reopened, 20), policy.open_most_ms)


def _name(call: FailedCall) -> str:
    return call.group or call.request


def _is_sick(counts: Iterable[tuple[int, str, int, int]], policy: Policy) -> bool:
    groups: dict[str, list[int]] = {}
    for _, group, calls, failures in counts:
        total = groups.setdefault(group, [0, 0])
        total[0] += calls
        total[1] += failures
    calls, failures = (sum(total[at] for total in groups.values()) for at in (0, 1))
    if calls < policy.min_calls or failures < calls * policy.failure_ratio:
        return False
    if not any(groups):
        return True  # the callers have no groups
    return all(
        failures > failed and failures - failed >= (calls - called) * policy.failure_ratio
        for called, failed in groups.values()
        if failed
    )


def _blamed(
    circuit: Circuit, failures: Sequence[FailedCall], now_ms: int, policy: Policy
) -> tuple[tuple[tuple[int, str, str], ...], Counter[str]]:
    """Return the failures of the window with these added, and how many of these are new, by group."""
    bucket = now_ms // policy.bucket_ms
    blamed = [each for each in circuit.blamed if each[0] > bucket - policy.buckets]
    known, new = {(group, request) for _, group, request in blamed}, Counter[str]()
    for failure in failures:
        if failure not in known:
            known.add(failure)
            blamed.append((bucket, *failure))
            new[failure.group] += 1
    return tuple(blamed[-BREAKER_FAILURES:]), new


def _counted(
    circuit: Circuit, successes: Mapping[str, int], failures: Mapping[str, int], now_ms: int, policy: Policy
) -> tuple[tuple[int, str, int, int], ...]:
    bucket = now_ms // policy.bucket_ms
    counts = {each[:2]: each[2:] for each in circuit.counts if each[0] > bucket - policy.buckets}
    groups = sum(at == bucket for at, _ in counts)
    for group in dict.fromkeys((*failures, *successes)):
        if (bucket, group) not in counts:
            groups += 1
            if groups > BREAKER_GROUPS:
                continue  # so many groups say enough
        calls, failed = counts.get((bucket, group), (0, 0))
        new = failures.get(group, 0)
        counts[bucket, group] = (calls + successes.get(group, 0) + new, failed + new)
    return tuple((*key, *counts[key]) for key in sorted(counts))
