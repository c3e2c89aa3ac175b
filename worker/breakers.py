"""The circuits of this process's providers, shared with all other workers.

Reports are gathered and told a few times a second, in one call for all circuits, so that a call to a provider whose
circuit is closed costs no round trip; a trial call is claimed, so that all workers together make only so many. Above:
gate.py. Below: breaker.py decides, shared/circuits.py exchanges. Redis being away changes nothing but that nobody
learns.
"""

import asyncio
from collections import Counter

import structlog

from shared.circuits import Change, Circuits
from shared.clock import Clock
from shared.metrics import Metrics
from shared.valkey import REDIS_FAULTS, Outage
from worker.breaker import CLOSED, Circuit, Policy, State, is_idle, probed, reported, state_of

log = structlog.get_logger()

# Reports wait for so long (s) for others; without any, the other workers' are asked for this often.
_GATHER_S, _LOOK_S = 0.25, 1.0
# How often an exchange is tried where others are faster.
_TRIES = 5
_LEVELS = {State.CLOSED: 0, State.HALF_OPEN: 1, State.OPEN: 2}


def circuit_name(provider: str, model: str) -> str:
    """What a provider's model is called among the circuits."""
    return f"{provider}/{model}"


class Breakers:
    """This process's view of the circuits that it has to do with."""

    def __init__(self, circuits: Circuits, clock: Clock, policy: Policy, metrics: Metrics | None = None) -> None:
        self._gauge = (metrics or Metrics()).circuit
        self._circuits = circuits
        self._clock = clock
        self._policy = policy
        self._seen: dict[str, bytes] = {}
        self._known: dict[str, Circuit] = {}
        self._states: dict[str, State] = {}
        self._labels: dict[str, tuple[str, str]] = {}
        self._successes: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._reported = asyncio.Event()
        # Between this process's clock and the server's, in ms.
        self._ahead_ms = float(clock.wall_ms()) - clock.monotonic() * 1000
        self._outage = Outage("breakers.not_told", "breakers.told_again")

    async def allows(self, provider: str, model: str) -> bool:
        """Whether to call this provider's model now; it may be a trial call, which is to be reported on."""
        name = self._met(provider, model)
        state = state_of(self._known.get(name, CLOSED), self._now_ms(), self._policy)
        if state is not State.HALF_OPEN:
            return state is State.CLOSED
        try:
            return await self._try_out(name)
        except REDIS_FAULTS as error:
            self._outage.goes_on(error)
            return False

    def succeeded(self, provider: str, model: str) -> None:
        """It answered."""
        self._report(self._successes, provider, model)

    def failed(self, provider: str, model: str) -> None:
        """It did not, by its own fault."""
        self._report(self._failures, provider, model)

    async def run(self) -> None:
        """Tell and look until cancelled."""
        while True:
            try:
                async with asyncio.timeout(_LOOK_S):
                    await self._reported.wait()
                await asyncio.sleep(_GATHER_S)
            except TimeoutError:
                pass
            self._reported.clear()
            try:
                await self.share()
                self._outage.is_over()
            except REDIS_FAULTS as error:
                self._outage.goes_on(error)

    async def share(self) -> None:
        """Tell what was reported, and see what others have."""
        names = [*self._labels]
        for _ in range(_TRIES):
            if not names:
                break
            successes, failures = Counter(self._successes), Counter(self._failures)
            changes = [self._change(name, successes[name], failures[name]) for name in names]
            done = await self._exchange(changes)
            for change in changes:
                if change.name in done:
                    self._successes[change.name] -= successes[change.name]
                    self._failures[change.name] -= failures[change.name]
            names = [name for name in names if name not in done]
        self._forget_idle()

    def _change(self, name: str, successes: int, failures: int) -> Change:
        seen = self._seen.get(name, b"")
        if not successes + failures:
            return Change(name, seen)
        after = reported(self._known.get(name, CLOSED), successes, failures, self._now_ms(), self._policy)
        return Change(name, seen, b"" if after == CLOSED else after.dump())

    async def _try_out(self, name: str) -> bool:
        for _ in range(_TRIES):
            circuit = self._known.get(name, CLOSED)
            state = state_of(circuit, self._now_ms(), self._policy)
            claimed = probed(circuit, self._now_ms(), self._policy) if state is State.HALF_OPEN else None
            if claimed is None:
                return state is State.CLOSED
            if await self._exchange([Change(name, self._seen.get(name, b""), claimed.dump())]):
                return True
        return False

    async def _exchange(self, changes: list[Change]) -> set[str]:
        """The circuits that are now what was asked for, or that were only looked at."""
        asked_ms = self._clock.monotonic() * 1000
        now_ms, found = await self._circuits.exchange(changes)
        self._ahead_ms = now_ms - asked_ms
        for change, (_, value) in zip(changes, found, strict=True):
            self._learn(change.name, value)
        return {c.name for c, (changed, _) in zip(changes, found, strict=True) if changed or c.new is None}

    def _learn(self, name: str, value: bytes) -> None:
        self._seen[name] = value
        self._known[name] = Circuit.load(value) if value else CLOSED
        state = state_of(self._known[name], self._now_ms(), self._policy)
        provider, model = self._labels[name]
        if state is not self._states.get(name, State.CLOSED):
            log.warning("breaker.changed", provider=provider, model=model, state=state.value)
            self._gauge.of(provider, model).read = lambda: _LEVELS[self._states.get(name, State.CLOSED)]
        self._states[name] = state

    def _met(self, provider: str, model: str) -> str:
        name = circuit_name(provider, model)
        if name not in self._labels:
            self._labels[name] = (provider, model)
            self._reported.set()
        return name

    def _report(self, counter: Counter[str], provider: str, model: str) -> None:
        counter[self._met(provider, model)] += 1
        self._reported.set()

    def _forget_idle(self) -> None:
        """Callers choose models' names: only those that are in use are kept."""
        now_ms = self._now_ms()
        for name in [*self._labels]:
            silent = not self._successes[name] + self._failures[name]
            if silent and is_idle(self._known.get(name, CLOSED), now_ms, self._policy):
                for kept in (self._labels, self._seen, self._known, self._states, self._successes, self._failures):
                    kept.pop(name, None)

    def _now_ms(self) -> int:
        return int(self._clock.monotonic() * 1000 + self._ahead_ms)
