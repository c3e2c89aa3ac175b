"""The harness's upstream: it can continue an answer, fails its callers now and then, and never runs ahead of a reader.

`python -m tests.faults.upstream --seed 7`. Tokens that a kernel holds for a dead worker are generated twice, however
good the worker was. So that the figure measures the worker, this upstream stops as soon as its reader does.
"""

import argparse
import sys

import uvloop

from shared.model.routes import Continuation
from tests.faults.fault_plan import SHARE, FaultPlan
from tests.support.upstream import Manner, serve

CONTINUATION = Continuation.CONTINUE_FINAL_MESSAGE
_AHEAD_BYTES = 2048  # about ten tokens


def main() -> None:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser(description="An upstream that is not to be relied on, on 127.0.0.1.")
    parser.add_argument("--seed", type=int, default=1, help="the same seed, the same faults")
    parser.add_argument("--share", type=float, default=SHARE, help="how many of the calls go wrong")
    parser.add_argument("--for", type=float, default=7200, dest="seconds", help="it ends itself after so long")
    options = parser.parse_args()
    manner = Manner(
        continuation=CONTINUATION,
        planned_fault=FaultPlan(options.seed, options.share).next,
        ahead=_AHEAD_BYTES if sys.platform == "linux" else None,
    )
    uvloop.run(serve(manner=manner, seconds=options.seconds))


if __name__ == "__main__":
    main()
