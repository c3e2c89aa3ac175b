"""`make fuzz`: send the requests of a seed and print the problems; exit status 1 if there are any."""

import argparse
import sys
import tempfile
from pathlib import Path

import uvloop

from shared.telemetry.logs import configure_logs
from tests.fuzz.run import Report, run
from tests.support.short_settings import short_settings
from tests.support.valkey import fresh_prefix, running_valkey


async def fuzz(seed: int, seconds: float, folder: Path) -> Report:
    """Run on a Valkey of its own."""
    async with running_valkey(folder / "valkey") as valkey:
        settings = short_settings(valkey.url, fresh_prefix(), folder, retention_s=2.0)
        return await run(settings, seed=seed, seconds=seconds)


def main() -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="make fuzz", description="Send requests of any form to all routes.")
    parser.add_argument("--seed", type=int, default=1, help="the same seed sends the same requests")
    parser.add_argument("--seconds", type=float, default=120.0, help="for how long")
    options = parser.parse_args()
    configure_logs("error", "console")
    with tempfile.TemporaryDirectory(prefix="tailrace-fuzz-") as folder:
        report = uvloop.run(fuzz(options.seed, options.seconds, Path(folder)))
    print(report.table())
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
