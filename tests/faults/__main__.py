"""`make faults`: run the faults of a seed, then a soak, and print both; exit status 1 if a promise was not kept."""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import uvloop

from tests.faults.load import MEDIAN
from tests.faults.run import CLIENTS, run
from tests.faults.score import CONTINUE
from tests.faults.soak import soak


def main() -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="make faults", description="Put a fleet under load and under faults.")
    parser.add_argument("--seed", type=int, default=1, help="the same seed plans the same faults")
    parser.add_argument("--seconds", type=float, default=120.0, help="how long faults happen")
    parser.add_argument("--tokens", type=int, default=0, help="go on until so many tokens were expected")
    parser.add_argument("--clients", type=int, default=CLIENTS, help="clients at once")
    parser.add_argument("--median", type=int, default=MEDIAN, help="tokens of an answer: half of them have more")
    parser.add_argument("--one-server", action="store_true", help="queue and jobs share a Valkey")
    parser.add_argument("--spare-valkey", action="store_true", help="Valkey is never killed: no gap may be sent")
    parser.add_argument(
        "--policy",
        choices=(CONTINUE, "rollback"),
        default=CONTINUE,
        help="what becomes of an answer that breaks in the middle: to compare what is generated twice",
    )
    parser.add_argument("--soak", type=float, default=5.0, help="minutes of the soak that follows; 0: none")
    parser.add_argument("--json", type=Path, help="write the score there")
    parser.add_argument("--keep", type=Path, help="keep logs and data in this new folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tailrace-faults-") as scratch:
        score = uvloop.run(
            run(
                options.keep or Path(scratch) / "run",
                seed=options.seed,
                seconds=options.seconds,
                tokens=options.tokens,
                clients=options.clients,
                median=options.median,
                spare_valkey=options.spare_valkey,
                policy=options.policy,
                one_server=options.one_server,
            )
        )
    print(score.table(), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(score.as_dict(), indent=2) + "\n")
    return 0 if score.kept and (not options.soak or _soaked(60 * options.soak)) else 1


def _soaked(seconds: float) -> bool:
    with tempfile.TemporaryDirectory(prefix="tailrace-soak-") as scratch:
        found = uvloop.run(soak(Path(scratch) / "run", seconds))
    print(found.table())
    return not found.problems


if __name__ == "__main__":
    sys.exit(main())
