"""Take Redis away for seconds or a minute, at the times of production: no job starts again, every reader ends exact.

`make outages`; test_outages.py has the shortest. A run of faults (run.py) has shorter leases and many faults at once;
this one has nothing but the outage.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

import uvloop

from shared.config.settings import Settings
from tests.faults.fleet import running_fleet, settings_of
from tests.faults.load import MODEL, Client
from tests.faults.run import stall_bound_s
from tests.faults.schedule import VALKEY, Fault
from tests.faults.score import Score
from tests.support.upstream import ask

JOBS = 20
_RATE = 10.0
_BEFORE_S, _AFTER_S = 2.0, 8.0
_DEFAULTS = Settings.model_fields
TIMES = {name: _DEFAULTS[name].default for name in ("lease_s", "redis_patience_s", "tail_check_s", "max_attempts")}


async def outage(folder: Path, seconds: float) -> Score:
    """Kill Valkey under running jobs, start it again after `seconds`."""
    settings = settings_of(folder).model_copy(update=TIMES)
    score = Score(0, seconds, stall_bound_s=stall_bound_s(seconds, settings))
    async with running_fleet(folder, **TIMES) as fleet:
        tokens = int(_RATE * (_BEFORE_S + seconds + _AFTER_S))
        clients = [Client(str(number), fleet.ports, score) for number in range(JOBS)]
        bodies = [ask(model=MODEL, tokens=tokens, seed=number, rate=_RATE) for number in range(JOBS)]
        jobs = [asyncio.create_task(each.job(body)) for each, body in zip(clients, bodies, strict=True)]
        await asyncio.sleep(_BEFORE_S)
        await fleet.suffer_outage(Fault(VALKEY, "outage", _BEFORE_S, seconds), score.deadly_at)
        await asyncio.gather(*jobs)
        score.open_calls = await fleet.open_calls(5.0)
        score.problems += [*fleet.problems, *fleet.tracebacks()]
    score.problems += [f"{score.rollbacks} executions were started again."] * bool(score.rollbacks)
    return score


def main() -> int:
    """Each of the outages, one after the other."""
    parser = argparse.ArgumentParser(prog="make outages", description="Take Redis away for a while.")
    parser.add_argument("seconds", type=float, nargs="*", default=[1.0, 10.0, 60.0], help="for how long, each")
    kept = True
    for seconds in parser.parse_args().seconds:
        with tempfile.TemporaryDirectory(prefix="tailrace-outage-") as scratch:
            score = uvloop.run(outage(Path(scratch) / "run", seconds))
        print(f"--- Redis away for {seconds:g} s\n{score.table()}", flush=True)
        kept &= score.kept
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
