"""One run: a fleet, a load, a plan of faults, and the score."""

import asyncio
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

from shared.config.settings import Settings
from shared.model.routes import OnStreamFailure
from tests.faults.fault_plan import SHARE
from tests.faults.fleet import Fleet, running_fleet, settings_of
from tests.faults.load import MEDIAN, MOST_TOKENS, RATES, Client
from tests.faults.schedule import LONGEST_S, QUEUE, Fault, plan
from tests.faults.score import CONTINUE, Score
from tests.support.clocks import faketime_missing

CLIENTS = 40
SETTLE_S = MOST_TOKENS / min(filter(None, RATES)) + 40.0
"""Jobs that were accepted end within this time after the last fault, which may have made the longest start over."""
# Jobs without waiting clients have their ends, and their remaining keys have a time to live.
_EXPIRE_S = 30.0
_CLOSE_S = 10.0
# Parts start, connect and catch up on a machine that is busy with all the others.
_BUSY_S = 20.0


def stall_bound_s(outage_s: float, settings: Settings) -> float:
    """Return how long a reader may hear nothing if the longest fault lasts `outage_s`, generously."""
    return outage_s + settings.lease_s + settings.redis_patience_s + _BUSY_S


async def run(
    folder: Path,
    *,
    seed: int,
    seconds: float,
    tokens: int = 0,
    clients: int = CLIENTS,
    median: int = MEDIAN,
    spare_valkey: bool = False,
    policy: str = CONTINUE,
    one_server: bool = False,
) -> Score:
    """Put a fleet under load and under the seed's faults, for `seconds` or longer until `tokens` were expected.

    With `one_server`, queue and jobs share theirs, and some steps are taken in one call.
    """
    score = Score(seed, seconds, policy, stall_bound_s=stall_bound_s(LONGEST_S, settings_of(folder)))
    longest_s = seconds if not tokens else 10 * seconds
    faults = plan(seed, longest_s, spare_valkey=spare_valkey, clocks=not faketime_missing)
    if one_server:
        del faults[QUEUE]
    on_stream_failure = OnStreamFailure(policy)
    async with running_fleet(
        folder, seed=seed, planned_faults=SHARE, apart=not one_server, on_stream_failure=on_stream_failure
    ) as fleet:
        stop = asyncio.Event()
        crowd = [Client(f"{seed}-{n}", fleet.ports, score, median=median) for n in range(clients)]
        load = [asyncio.create_task(client.run(stop)) for client in crowd]
        plight = [asyncio.create_task(_afflict(fleet, each, seed, score, stop)) for each in faults.values()]
        started_at = time.monotonic()
        timer = asyncio.create_task(_stop_when_done(stop, score, seconds, longest_s, tokens))
        await asyncio.gather(timer, *plight)
        score.seconds = time.monotonic() - started_at
        _, late = await asyncio.wait(load, timeout=SETTLE_S)
        for task in late:
            task.cancel()
        outcomes = await asyncio.gather(*load, return_exceptions=True)
        score.problems += [repr(each) for each in outcomes if isinstance(each, Exception)]
        score.open_calls = await fleet.open_calls(_CLOSE_S)
        _read_off(await fleet.meter(), score)
        score.problems += [*fleet.problems, *fleet.tracebacks(), *await fleet.endless_keys(_EXPIRE_S)]
    return score


def _read_off(meter: dict[str, Any], score: Score) -> None:
    score.generated = meter["generated"]
    for began, count in meter["twice_at"]:
        score.generated_again(count, began)
    score.faults |= {f"upstream {kind}": count for kind, count in meter["planned_faults"].items()}
    score.problems += meter["problems"]


async def _stop_when_done(stop: asyncio.Event, score: Score, seconds: float, longest_s: float, tokens: int) -> None:
    await asyncio.sleep(seconds)
    for _ in range(int(longest_s - seconds)):
        if score.tokens >= tokens:
            break
        await asyncio.sleep(1)
    stop.set()


async def _afflict(fleet: Fleet, faults: list[Fault], seed: int, score: Score, stop: asyncio.Event) -> None:
    """One part's faults, each at its time or as soon as the one before is over."""
    started_at = time.monotonic()
    counts: Counter[str] = Counter()
    for fault in faults:
        try:
            async with asyncio.timeout(max(0.0, fault.at_s - (time.monotonic() - started_at))):
                await stop.wait()
        except TimeoutError:
            pass
        if stop.is_set():
            break
        counts[f"{fault.part.partition(' ')[0]} {fault.kind}"] += 1
        await fleet.suffer(fault, random.Random(f"{seed}/{fault.at_s}"), score.deadly_at)
    for name, count in counts.items():
        score.faults[name] = score.faults.get(name, 0) + count
