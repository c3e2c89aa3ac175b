"""A user's module with kinds of jobs that make checkpoints."""

import asyncio
from typing import Any

from pydantic import BaseModel

from worker.kinds import JobContext, RetryLater, kind


class Pages(BaseModel):
    """A number of pages. After one of them, the function that has read it fails, waits or asks for another attempt."""

    count: int
    fails_after: int | None = None
    hangs_after: int | None = None
    later_after: int | None = None


@kind("pages", max_attempts=2)
async def pages(job: JobContext, data: Pages) -> Any:
    """Read page by page, with a checkpoint after each."""
    first = (job.resume_from or {"next": 0})["next"]
    for page in range(first, data.count):
        await job.checkpoint({"next": page + 1})
        match page:
            case data.fails_after:
                raise RuntimeError("The page is torn.")
            case data.later_after:
                raise RetryLater(0.01)
            case data.hangs_after:
                await job.progress(page + 1, data.count)
                await asyncio.Event().wait()
    return {"resumed_from": job.resume_from, "read": list(range(first, data.count))}


class Unfit(BaseModel):
    """A checkpoint: a text of so many characters, or a value that is none of JSON."""

    characters: int = 0


@kind("unfit-checkpoint", max_attempts=1)
async def unfit_checkpoint(job: JobContext, data: Unfit) -> Any:
    """Return the sentence with which each unfit checkpoint is refused."""
    refused = []
    for value in ({1, 2}, None, "x" * data.characters):
        try:
            await job.checkpoint(value)
        except ValueError as error:
            refused.append(str(error))
    return refused
