"""A user's module with kinds of jobs that are functions, for tests of `TAILRACE_KINDS`."""

import asyncio
import time
from typing import Any, NamedTuple

from pydantic import BaseModel

from worker.kinds import JobContext, PermanentFailure, RetryLater, kind


class CleanUp(NamedTuple):
    """A function's clean-up: the loop's time of its cancellation, and the job's own word about it."""

    cancelled_at: float
    cancelled: bool


CLEANED_UP: dict[str, CleanUp] = {}
"""The clean-ups of this process, by their jobs."""


class Steps(BaseModel):
    """A list of steps that a function carries out."""

    steps: list[str]


@kind("steps", max_attempts=2)
async def steps(job: JobContext, data: Steps) -> Any:
    """Carry out the steps, and return them."""
    for number, step in enumerate(data.steps, 1):
        match step:
            case "fail":
                raise RuntimeError("a secret of the machine")
            case "fail once" if job.attempt == 1:
                raise RuntimeError("a secret of the machine")
            case "later" if job.attempt == 1:
                raise RetryLater(0.1)
            case "refuse":
                raise PermanentFailure("no_such_index", "There is no such index.")
            case "reserved":
                await job.emit("completed", {})
            case "set":
                return {1, 2}
            case "fail once, then hang" if job.attempt == 1:
                raise RuntimeError("a secret of the machine")
            case "hang" | "fail once, then hang":
                await job.progress(number, len(data.steps), step)
                await hang(job)
            case _:
                await job.emit("step.done", {"step": step})
    return {"steps": data.steps, "attempt": job.attempt}


async def hang(job: JobContext) -> None:
    """Wait for a cancellation, then clean up, which takes a while."""
    loop = asyncio.get_running_loop()
    try:
        await asyncio.Event().wait()
    finally:
        cancelled_at = loop.time()
        await asyncio.to_thread(str, job.id)
        CLEANED_UP[job.id] = CleanUp(cancelled_at, job.cancelled)


@kind("brief", timeout_s=0.05, max_attempts=1)
async def brief(job: JobContext, data: Steps) -> None:
    """Take longer than the kind allows."""
    await asyncio.Event().wait()


@kind("count", max_attempts=1)
async def count(job: JobContext, data: Steps) -> None:
    """Report each step, a number, of the number of steps."""
    for step in data.steps:
        await job.progress(float(step), len(data.steps), "counting")


@kind("block", max_attempts=1)
async def block(job: JobContext, data: Steps) -> None:
    """Hold up the event loop for a moment, once for each step."""
    for _ in data.steps:
        time.sleep(0.02)  # noqa: ASYNC251 - the fault of this function
        await asyncio.sleep(0)
