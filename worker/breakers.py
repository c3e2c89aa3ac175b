"""The circuits of this process's providers, shared with all other workers.

A call to a provider that is well costs no round trip, and tells nothing. Once one has failed, reports are gathered and
told a few times a second, in one call for all circuits; a trial call is claimed, so that all workers together make only
so many. Callers choose the models' names: what is idle is forgotten. Above:
gate.py. Below: breaker.py decides, shared/circuits.py exchanges. Redis being away changes nothing but that nobody
learns.
"""

import asyncio
from collections import Counter
from functools import partial

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
_UNKNOWN = (CLOSED, b"")


def circuit_name(provider: str, model: str) -> str:
    """What a provider's model is called among the circuits."""
    return f"{provider}/{model}"


class Breakers:
    """This process's view of the circuits that it has to do with."""

    def __init__(self, circuits: Circuits, clock: Clock, policy: Policy, metrics: Metrics | None = None) -> None:
        self._gauge = (metrics or Metrics()).circuits_open
        self._circuits = circuits
        self._clock = clock
        self._policy = policy
        # Those that are not idle: each as it is, and as it was read.
        self._known: dict[str, tuple[Circuit, bytes]] = {}
        # Those that are not closed.
        self._states: dict[str, State] = {}
        self._successes: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._reported = asyncio.Event()
        # Between this process's clock and the server's, in ms.
        self._ahead_ms = float(clock.wall_ms()) - clock.monotonic() * 1000
        self._outage = Outage("breakers.not_told", "breakers.told_again")

    async def allows(self, provider: str, model: str) -> bool:
        """Whether to call this provider's model now; it may be a trial call, which is to be reported on."""
        name = circuit_name(provider, model)
        circuit, _ = self._known.get(name, _UNKNOWN)
        state = state_of(circuit, self._now_ms(), self._policy)
        if state is not State.HALF_OPEN:
            return state is State.CLOSED
        try:
            return await self._try_out(name)
        except REDIS_FAULTS as error:
            self._outage.goes_on(error)
            return False

    def succeeded(self, provider: str, model: str) -> None:
        """It answered. While nobody has seen it fail lately, that is nothing new."""
        name = circuit_name(provider, model)
        if name in self._known or name in self._failures:
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
                await self.look()
                self._outage.is_over()
            except REDIS_FAULTS as error:
                self._outage.goes_on(error)

    async def share(self) -> None:
        """Tell what was reported."""
        names = [*self._successes.keys() | self._failures.keys()]
        for _ in range(_TRIES):
            if not names:
                break
            successes, failures = Counter(self._successes), Counter(self._failures)
            done = await self._exchange([self._change(name, successes[name], failures[name]) for name in names])
            for name in done:
                _take_off(self._successes, name, successes[name])
                _take_off(self._failures, name, failures[name])
            names = [name for name in names if name not in done]

    async def look(self) -> None:
        """See all circuits as they are."""
        asked_ms = self._clock.monotonic() * 1000
        now_ms, found = await self._circuits.all()
        self._ahead_ms = now_ms - asked_ms
        for name in [*self._known.keys() | found.keys()]:
            self._learn(name, found.get(name, b""))
        if idle := [Change(name, value, b"") for name, value in found.items() if name not in self._known]:
            await self._exchange(idle)

    def _change(self, name: str, successes: int, failures: int) -> Change:
        circuit, seen = self._known.get(name, _UNKNOWN)
        after = reported(circuit, successes, failures, self._now_ms(), self._policy)
        return Change(name, seen, b"" if after == CLOSED else after.dump())

    async def _try_out(self, name: str) -> bool:
        for _ in range(_TRIES):
            circuit, seen = self._known.get(name, _UNKNOWN)
            state = state_of(circuit, self._now_ms(), self._policy)
            claimed = probed(circuit, self._now_ms(), self._policy) if state is State.HALF_OPEN else None
            if claimed is None:
                return state is State.CLOSED
            if await self._exchange([Change(name, seen, claimed.dump())]):
                return True
        return False

    async def _exchange(self, changes: list[Change]) -> set[str]:
        """The circuits that are now what was asked for."""
        asked_ms = self._clock.monotonic() * 1000
        now_ms, found = await self._circuits.exchange(changes)
        self._ahead_ms = now_ms - asked_ms
        for change, (_, value) in zip(changes, found, strict=True):
            self._learn(change.name, value)
        return {change.name for change, (changed, _) in zip(changes, found, strict=True) if changed}

    def _learn(self, name: str, value: bytes) -> None:
        former = self._states.pop(name, State.CLOSED)
        circuit = _read(value)
        if is_idle(circuit, self._now_ms(), self._policy):
            self._known.pop(name, None)
        else:
            self._known[name] = (circuit, value)
        state = state_of(circuit, self._now_ms(), self._policy)
        if state is not State.CLOSED:
            self._states[name] = state
        if state is not former:
            provider, _, model = name.partition("/")
            log.warning("breaker.changed", provider=provider, model=model, state=state.value)
            self._gauge.of(provider).read = partial(self._open_at, provider)

    def _open_at(self, provider: str) -> int:
        return sum(name.startswith(circuit_name(provider, "")) for name in self._states)

    def _report(self, counter: Counter[str], provider: str, model: str) -> None:
        counter[circuit_name(provider, model)] += 1
        self._reported.set()

    def _now_ms(self) -> int:
        return int(self._clock.monotonic() * 1000 + self._ahead_ms)


def _read(value: bytes) -> Circuit:
    """A circuit's value; closed where there is none, or another version's, which is then forgotten."""
    try:
        return Circuit.load(value) if value else CLOSED
    except (KeyError, TypeError, ValueError):
        log.warning("breaker.unreadable")
        return CLOSED


def _take_off(counter: Counter[str], name: str, number: int) -> None:
    counter[name] -= number
    if not counter[name]:
        del counter[name]
