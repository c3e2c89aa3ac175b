"""`make bench`: measures a stream straight from an upstream and the same one through Tailrace, in one run.

`python -m tests.load.bench --help` lists the options, README.md beside this file explains the rows. It ends with
1 when a stream was not whole; a missed budget is reported, and ends with 0, since a busy machine misses it too.
Not here: the measurements (scenarios.py).
"""

import argparse
import contextlib
import gc
import json
import os
import platform
import resource
import sys
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop

from tests.load.caller import Broken
from tests.load.results_table import ResultsTable
from tests.load.scenarios import SCENARIOS, scale
from tests.load.sizes import FULL, QUICK, TINY, Size
from tests.load.testbed import SLOTS, Peer, running_testbed

_SIZES = {"full": FULL, "quick": QUICK, "tiny": TINY}
_FLEETS = ((1, 1), (2, 1), (2, 2))
"""Workers and gateways of each fleet of the scaling table."""


async def measure(
    results: ResultsTable,
    names: Iterable[str],
    size: Size,
    data_dir: Path,
    peer: Peer | None,
    upstream_port: int,
    *,
    metrics: bool,
) -> None:
    """Run these scenarios on one testbed, and note their measurements in the results."""
    async with running_testbed(data_dir, peer=peer, upstream_port=upstream_port, metrics=metrics) as testbed:
        for name in names:
            print(f"… {name}", file=sys.stderr, flush=True)
            try:
                await SCENARIOS[name](testbed, results, size)
            except (Broken, TimeoutError) as error:
                results.faults.append(f"{name} did not finish: {error!r}")


async def measure_scaling(
    results: ResultsTable, size: Size, data_dir: Path, upstream_port: int, *, metrics: bool
) -> None:
    """More streams and more processes, a testbed for each fleet."""
    for workers, gateways in _FLEETS:
        fleet = f"{_counted(workers, 'worker')} and {_counted(gateways, 'gateway')}"
        print(f"… {fleet}", file=sys.stderr, flush=True)
        folder = data_dir / f"{workers}-{gateways}"
        async with running_testbed(
            folder, workers=workers, gateways=gateways, upstream_port=upstream_port, metrics=metrics
        ) as testbed:
            try:
                await scale(testbed, results, size, fleet)
            except TimeoutError:
                results.faults.append(f"Scaling with {fleet} did not finish.")


def _counted(count: int, part: str) -> str:
    return f"{count} {part}{'s' * (count > 1)}"


def about(*, metrics: bool) -> dict[str, Any]:
    """The machine and the day, without which no figure means anything."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "worker_slots": SLOTS,
        "metrics": metrics,
    }


def _header(facts: dict[str, Any]) -> str:
    return (
        f"Tailrace bench, {facts['date']}, Python {facts['python']}, {facts['processors']} processors, "
        f"load before {facts['load_before']:.1f}, {'with' if facts['metrics'] else 'without'} metrics.\n"
        "Load generator, mock upstream, gateway, worker and Valkey share these processors: compare within a row.\n"
    )


def _report(results: ResultsTable, facts: dict[str, Any], to: Path | None) -> int:
    print(_header(facts))
    print(results.table())
    verdicts = [line.met for line in results.lines() if line.met is not None]
    print(f"\n{sum(verdicts)} of {len(verdicts)} budgets met.")
    if results.faults:
        print(f"{len(results.faults)} faults in streams; the first ones:", *results.faults[:10], sep="\n  ")
    else:
        print("Every stream had all its tokens, in order.")
    if to is not None:
        to.write_text(json.dumps({"about": facts, **results.as_dict()}, indent=1))
    return 1 if results.faults else 0


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench",
        description="Measure Tailrace against its upstream, both on 127.0.0.1.",
        epilog="BENCH_PEER=http://127.0.0.1:4000/v1 measures another gateway beside it: see tests/load/README.md.",
    )
    parser.add_argument("--quick", action="store_const", dest="size", const="quick", help="one round, a few minutes")
    parser.add_argument("--tiny", action="store_const", dest="size", const="tiny", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, metavar="NAME", help=f"of: {', '.join(SCENARIOS)}")
    parser.add_argument("--scaling", action="store_true", help="50 to 800 streams on 2 to 4 processes instead")
    parser.add_argument("--without-metrics", action="store_true", help="no part counts: what does counting cost?")
    parser.set_defaults(size="full")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Measure and report; the exit status."""
    options = _options(argv)
    to = options.json.resolve() if options.json else None
    peer_url, port = os.environ.get("BENCH_PEER"), int(os.environ.get("BENCH_UPSTREAM_PORT", "0"))
    peer = None
    if peer_url:
        peer = Peer(peer_url, os.environ.get("BENCH_PEER_KEY", "none"), os.environ.get("BENCH_PEER_MODEL", "mock"))
    for name in [name for name in os.environ if name.upper().startswith(("TAILRACE_", "OPENAI_"))]:
        del os.environ[name]  # the testbed's settings are its own
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # 10,000 readers are as many sockets
    metrics = not options.without_metrics
    facts, size, results = about(metrics=metrics), _SIZES[options.size], ResultsTable()
    with tempfile.TemporaryDirectory(prefix="tailrace-bench-") as folder, contextlib.chdir(folder):
        gc.freeze()
        if options.scaling:
            work = measure_scaling(results, size, Path(folder), port, metrics=metrics)
        else:
            work = measure(results, options.only or SCENARIOS, size, Path(folder), peer, port, metrics=metrics)
        try:
            uvloop.run(work)
        except KeyboardInterrupt:
            results.faults.append("It was interrupted: what was measured until then is shown.")
    return _report(results, facts, to)


if __name__ == "__main__":
    sys.exit(main())
