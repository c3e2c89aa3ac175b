"""The command line of a worker: read the settings, run the worker and handle signals.

`python -m worker`, or `tailrace worker`. Not here: the parts of a worker and how they are put together (app.py).
"""

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence

import structlog
import uvloop

from shared.config.settings import Settings, environment_notes, load_settings
from shared.model.errors import RedisUnavailable, StartupError, TailraceError
from shared.process.ready import report_ready
from shared.telemetry.logs import configure_logs, log_notes
from worker.app import run_worker
from worker.configured_providers import make_providers
from worker.execution.completion import CompletionStep
from worker.execution.executions import EXECUTABLE_KINDS, ExecutableKinds
from worker.upstream.providers.protocols import BUILT_IN_PROTOCOLS, ProviderProtocols

log = structlog.get_logger()


async def main(
    settings: Settings,
    ready_fd: int | None,
    protocols: ProviderProtocols = BUILT_IN_PROTOCOLS,
    kinds: ExecutableKinds = EXECUTABLE_KINDS,
    steps: Sequence[CompletionStep] = (),
) -> int:
    """Run the worker with signal handling and return the exit code of the process.

    `steps` are completion steps beside its own.
    """
    stop, now = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (now if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, on_signal)

    def ready() -> None:
        log.info("worker.ready", slots=settings.worker_slots)
        report_ready(ready_fd)

    try:
        providers = make_providers(settings, protocols)
        await run_worker(settings, providers, kinds, ready=ready, stop=stop, now=now, steps=steps)
    except (StartupError, RedisUnavailable) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def cli(steps: Sequence[CompletionStep] = ()) -> int:
    """Run `python -m worker`; `steps` are completion steps beside its own."""
    parser = argparse.ArgumentParser(prog="tailrace worker", description="Run one worker process.")
    parser.add_argument("--ready-fd", type=int, default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    try:
        settings = load_settings()
    except TailraceError as error:
        print(error, file=sys.stderr)
        return 2
    configure_logs(settings.log_level, settings.log_format)
    log_notes(environment_notes())
    return uvloop.run(main(settings, arguments.ready_fd, steps=steps))


if __name__ == "__main__":
    sys.exit(cli())
