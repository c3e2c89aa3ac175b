"""The circuits of this process's providers, shared with all other workers.

A provider's model has one circuit for all tenants, which only failures of several tenants open. It has another one
for each tenant, which failures of several of its requests open. So a tenant's failures never refuse a provider to
another tenant. A call to a healthy provider costs no round trip. Once one has failed, reports are gathered and sent a
few times a second, in one call for all circuits; a trial call is claimed, so that all workers together make only so
many. Callers choose the models' names: idle circuits are deleted. While Redis is away, circuits stay as they are.
Not here: the rules of a circuit (worker/model/breaker.py), and its storage (shared/store/breaker_state.py).
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import structlog

from shared.model.events import encode_data
from shared.model.metrics import Metrics
from shared.process.clock import Clock
from shared.store.breaker_state import BreakerStates, Change
from shared.store.client import REDIS_FAULTS, Outage
from worker.model.breaker import (
    CLOSED,
    Circuit,
    CircuitState,
    FailedCall,
    Policy,
    given_back,
    is_idle,
    probed,
    reported,
    state_of,
)

log = structlog.get_logger()

# Seconds for which reports are gathered before they are sent; without any, seconds between two reads of all circuits.
_GATHER_S, _REFRESH_S = 0.25, 1.0
# A change is tried so often if other workers change the circuit first.
_TRIES = 5
_UNKNOWN = (CLOSED, b"")


@dataclass(frozen=True, slots=True)
class CallAllowance:
    """Permission for one call, or its refusal. Each trial call must be reported or given back.

    `trials` names the circuits for which the call is a trial.
    """

    granted: bool
    trials: tuple[str, ...] = ()


NO, YES = CallAllowance(granted=False), CallAllowance(granted=True)


class CallOrigin:
    """Name the tenant and the request that a call to a provider is made for."""

    def __init__(self, tenant: str, request: Mapping[str, Any]) -> None:
        self.tenant = tenant
        self._request = request

    @cached_property
    def request(self) -> str:
        """Return a short hash of the request: each attempt has the same."""
        return hashlib.sha256(encode_data(self._request)).hexdigest()[:12]

    def names(self, provider: str, model: str) -> tuple[str, str]:
        """Return the names of the circuits of its calls: that of all tenants, and that of its own."""
        # Neither a provider's nor a tenant's name has a slash.
        return f"{provider}//{model}", f"{provider}/{self.tenant}/{model}"

    def calls(self) -> tuple[FailedCall, FailedCall]:
        """Return a call as each of these circuits counts it if it fails."""
        return FailedCall(self.tenant, f"{self.tenant}/{self.request}"), FailedCall("", self.request)


class Breakers:
    """Hold this process's copy of the circuits that are not idle, and compare_and_set reports through Redis."""

    def __init__(self, shared: BreakerStates, clock: Clock, policy: Policy, metrics: Metrics | None = None) -> None:
        self._gauge = (metrics or Metrics()).circuits_open
        self._shared = shared
        self._clock = clock
        self._policy = policy
        # Circuits that are not idle: each decoded, and as it was read.
        self._known: dict[str, tuple[Circuit, bytes]] = {}
        # The states of the circuits that are not closed.
        self._states: dict[str, CircuitState] = {}
        self._successes: dict[str, Counter[str]] = {}
        self._failures: dict[str, list[FailedCall]] = {}
        self._reported = asyncio.Event()
        # The difference between this process's clock and the server's, in ms.
        self._ahead_ms = float(clock.wall_ms()) - clock.monotonic() * 1000
        self._outage = Outage("breakers.redis_lost", "breakers.redis_back")

    async def allows(self, provider: str, model: str, origin: CallOrigin) -> CallAllowance:
        """Return whether to call this provider's model now."""
        trials: list[str] = []
        for position, name in enumerate(origin.names(provider, model)):
            circuit, _ = self._known.get(name, _UNKNOWN)
            state = state_of(circuit, self._now_ms(), self._policy)
            if state is CircuitState.HALF_OPEN:
                state = await self._try_out(name, origin.calls()[position])
            if state is CircuitState.OPEN:
                await self._give_back(trials)
                return NO
            if state is CircuitState.HALF_OPEN:
                trials.append(name)
        return CallAllowance(True, tuple(trials)) if trials else YES

    def succeeded(self, provider: str, model: str, origin: CallOrigin) -> None:
        """Report a call that was answered. Only circuits that have failed lately count it."""
        for name, group in zip(origin.names(provider, model), (origin.tenant, ""), strict=True):
            if name in self._known or name in self._failures:
                self._successes.setdefault(name, Counter())[group] += 1
                self._reported.set()

    def failed(self, provider: str, model: str, origin: CallOrigin) -> None:
        """Report a call that failed by the provider's own fault."""
        for name, call in zip(origin.names(provider, model), origin.calls(), strict=True):
            self._failures.setdefault(name, []).append(call)
        self._reported.set()

    async def given_back(self, allowance: CallAllowance) -> None:
        """Report a trial call that ended without a verdict: another one may be made at once."""
        await self._give_back(allowance.trials)

    async def run(self) -> None:
        """Share reports and read all circuits until cancelled."""
        while True:
            try:
                async with asyncio.timeout(_REFRESH_S):
                    await self._reported.wait()
                await asyncio.sleep(_GATHER_S)
            except TimeoutError:
                pass
            self._reported.clear()
            try:
                await self.share()
                await self.refresh()
                self._outage.is_over()
            except REDIS_FAULTS as error:
                self._outage.continues(error)

    async def share(self) -> None:
        """Send the gathered reports."""
        names = [*self._successes.keys() | self._failures.keys()]
        for _ in range(_TRIES):
            if not names:
                break
            successes = {name: Counter(self._successes.get(name, ())) for name in names}
            failures = {name: list(self._failures.get(name, ())) for name in names}
            done = await self._compare_and_set([self._change(name, successes[name], failures[name]) for name in names])
            for name in done:
                self._take_off(name, successes[name], len(failures[name]))
            names = [name for name in names if name not in done]

    async def refresh(self) -> None:
        """Read all circuits from Redis, and delete the idle ones."""
        asked_ms = self._clock.monotonic() * 1000
        now_ms, found = await self._shared.all()
        self._ahead_ms = now_ms - asked_ms
        for name in [*self._known.keys() | found.keys()]:
            self._learn(name, found.get(name, b""))
        if idle := [Change(name, value, b"") for name, value in found.items() if name not in self._known]:
            await self._compare_and_set(idle)

    def _change(self, name: str, successes: Counter[str], failures: list[FailedCall]) -> Change:
        circuit, seen = self._known.get(name, _UNKNOWN)
        after = reported(circuit, successes, failures, self._now_ms(), self._policy)
        return Change(name, seen, b"" if after == CLOSED else after.dump())

    async def _try_out(self, name: str, call: FailedCall) -> CircuitState:
        """Claim a trial call of a half-open circuit: return HALF_OPEN if it may be made, else the state by now."""
        for _ in range(_TRIES):
            circuit, seen = self._known.get(name, _UNKNOWN)
            state = state_of(circuit, self._now_ms(), self._policy)
            if state is not CircuitState.HALF_OPEN:
                return state
            claimed = probed(circuit, call, self._now_ms(), self._policy)
            if claimed is None:
                return CircuitState.OPEN
            try:
                if await self._compare_and_set([Change(name, seen, claimed.dump())]):
                    return CircuitState.HALF_OPEN
            except REDIS_FAULTS as error:
                self._outage.continues(error)
                return CircuitState.OPEN
        return CircuitState.OPEN

    async def _give_back(self, names: Iterable[str]) -> None:
        try:
            for name in names:
                circuit, seen = self._known.get(name, _UNKNOWN)
                if circuit.probes:
                    await self._compare_and_set([Change(name, seen, given_back(circuit).dump())])
        except REDIS_FAULTS as error:
            self._outage.continues(error)

    async def _compare_and_set(self, changes: list[Change]) -> set[str]:
        """Send changes; return the names of the circuits that now have the requested value."""
        asked_ms = self._clock.monotonic() * 1000
        now_ms, found = await self._shared.compare_and_set(changes)
        self._ahead_ms = now_ms - asked_ms
        for change, (_, value) in zip(changes, found, strict=True):
            self._learn(change.name, value)
        return {change.name for change, (changed, _) in zip(changes, found, strict=True) if changed}

    def _learn(self, name: str, value: bytes) -> None:
        former = self._states.pop(name, CircuitState.CLOSED)
        circuit = _read(value)
        if is_idle(circuit, self._now_ms(), self._policy):
            self._known.pop(name, None)
        else:
            self._known[name] = (circuit, value)
        state = state_of(circuit, self._now_ms(), self._policy)
        if state is not CircuitState.CLOSED:
            self._states[name] = state
        if state is not former:
            provider, tenant, model = name.split("/", 2)
            log.warning("breaker.changed", provider=provider, model=model, tenant=tenant or None, state=state.value)
            self._gauge.of(provider).read = partial(self._open_at, provider)

    def _open_at(self, provider: str) -> int:
        return sum(name.startswith(f"{provider}/") for name in self._states)

    def _take_off(self, name: str, successes: Counter[str], failures: int) -> None:
        """Remove the reports that were sent; more may have come meanwhile."""
        if not (left := self._successes.get(name, Counter()) - successes):
            self._successes.pop(name, None)
        else:
            self._successes[name] = left
        if not (later := self._failures.get(name, [])[failures:]):
            self._failures.pop(name, None)
        else:
            self._failures[name] = later

    def _now_ms(self) -> int:
        return int(self._clock.monotonic() * 1000 + self._ahead_ms)


def _read(value: bytes) -> Circuit:
    """Decode a circuit's value; return a closed circuit if it is empty or another version's, which is then deleted."""
    try:
        return Circuit.load(value) if value else CLOSED
    except (KeyError, TypeError, ValueError):
        log.warning("breaker.unreadable")
        return CLOSED
