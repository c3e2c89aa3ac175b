"""A user's module with a kind of a name that another module has, too."""

from tests.support.own_kinds import Steps
from worker.kinds import JobContext, kind


@kind("steps")
async def other_steps(job: JobContext, data: Steps) -> None:
    """Do nothing."""
