"""A worker process with a completion step that records its runs in Redis, so that they can be counted after its death.

Not here: workers in the test's own process (system.py), and the process itself (processes.py).
"""

import sys
from typing import Final

from shared.config.settings import Settings, load_settings
from shared.model.ended_job import EndedJob
from shared.store.client import Client, open_client
from shared.store.keys import Keys
from tests.support.short_settings import redis_url_of
from worker.__main__ import cli as worker_cli

PROGRAM: Final = "tests.support.completion_worker"


class CountedStep:
    """A step that may not run again, and records each run in Redis."""

    name: Final = "counted"
    repeatable: Final = False

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def run(self, job: EndedJob) -> None:
        """Record this run."""
        async with open_client(redis_url_of(self._settings), connections=1) as client:
            await client.rpush(_runs(Keys(self._settings.key_prefix)), job.id)  # type: ignore[misc]


async def counted(client: Client, keys: Keys) -> list[str]:
    """Return the jobs for which the step ran, in order, each as often as it ran."""
    return [job_id.decode() for job_id in await client.lrange(_runs(keys), 0, -1)]  # type: ignore[misc]


def _runs(keys: Keys) -> str:
    return f"{keys.prefix}:counted"


def cli() -> int:
    """Run a worker with the step."""
    return worker_cli([CountedStep(load_settings())])


if __name__ == "__main__":
    sys.exit(cli())
