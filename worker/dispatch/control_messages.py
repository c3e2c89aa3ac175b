"""React to the messages of the control channel: each is for one part of this process.

Not here: the messages themselves (shared/store/wire/control.py), and the connection (shared/store/live_feed.py).
"""

import structlog

from shared.store.wire.answers import StopReason
from shared.store.wire.control import CancelJob, JobEnded, PermitReleased, parse_message
from worker.dispatch.reaper import Reaper
from worker.execution.runs import Runs
from worker.upstream.concurrency import Concurrency

log = structlog.get_logger()


def handle_control_message(raw: bytes, runs: Runs, concurrency: Concurrency, reaper: Reaper) -> None:
    """React to one message; a message of another version is ignored."""
    match parse_message(raw):
        case CancelJob(job_id):
            runs.stop(job_id, StopReason.CANCELLED)
        case PermitReleased(provider):
            concurrency.freed(provider)
        case JobEnded():
            reaper.sweep_soon()
        case None:
            log.debug("worker.unknown_control_message", bytes=len(raw))
