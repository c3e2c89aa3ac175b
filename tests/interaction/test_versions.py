"""Versions side by side: gateways and workers of two versions on one server, as in a rolling deploy.

The old versions are commits of this repository, run as real processes from a copy of their sources. Those two can't run
beside each other: each replaces the other's functions, and no later version can help that.
"""

import asyncio
import io
import subprocess
import tarfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from shared.config.settings import Settings
from shared.model.events import EventType
from shared.model.lanes import DEFAULT_LANE
from shared.process.embedded_valkey import EmbeddedValkey
from tests.support.client import Client
from tests.support.controlled_provider import ControlledProvider
from tests.support.core import Core, open_core
from tests.support.processes import Processes, Running
from tests.support.system import Story, read_story, reading, running_system, running_worker
from tests.support.upstream import ask, expected_text
from tests.support.valkey import running_valkey

ROOT = Path(__file__).parents[2]
FIRST, LATER = "fec31f1", "9d88f45"
WITHIN_S = 20.0
PACED: dict[str, Any] = {"tokens": 40, "rate": 20.0}


def sources_of(commit: str, folder: Path) -> Path:
    """Return a copy of the three packages as they were at this commit."""
    git = ("git", "-C", str(ROOT))
    found = subprocess.run([*git, "cat-file", "-e", f"{commit}^{{commit}}"], check=False, capture_output=True)
    if found.returncode:
        pytest.skip(f"This checkout has no history: commit {commit} is not there.")
    archive = subprocess.run(
        [*git, "archive", "--format=tar", commit, "gateway", "worker", "shared"], capture_output=True, check=True
    )
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder


@dataclass(frozen=True)
class Pair:
    """A gateway and a worker of one version."""

    gateway: Running
    worker: Running

    @property
    def client(self) -> Client:
        """Alice, at this gateway."""
        port = urlsplit(self.gateway.url).port
        assert port is not None
        return Client(port)


async def started(processes: Processes) -> Pair:
    """Return a pair that is ready."""
    return Pair(*await asyncio.gather(processes.gateway(), processes.worker()))


async def submitted(pair: Pair, **job: object) -> str:
    """Submit a job of Alice's at the pair's gateway; return its id."""
    answer = await pair.client.post("/v1/jobs", job)
    assert answer.status == 202, answer.body
    job_id: str = answer.json()["id"]
    return job_id


async def read(pair: Pair, job_id: str) -> Story:
    """Return the whole of a job's events, read at the pair's gateway and proven."""
    async with asyncio.timeout(WITHIN_S):
        return await read_story(pair.client, job_id)


async def check_stream(at: Pair, readers: Sequence[Pair]) -> None:
    """Check that a stream is the same at each gateway, and exact; a chat completion is, too."""
    body = ask(tokens=30, seed=5)
    job_id = await submitted(at, **body)
    chat = asyncio.create_task(at.client.post("/v1/chat/completions", body))
    stories = await asyncio.gather(*(read(each, job_id) for each in readers))
    assert all(story == stories[0] for story in stories)
    assert stories[0].types[:2] + stories[0].types[-1:] == ["queued", "started", "completed"]
    assert stories[0].text == expected_text(body)
    assert (await chat).json()["choices"][0]["message"]["content"] == expected_text(body)


async def check_deadline(at: Pair) -> None:
    """Check that a job ends when its time is over if its provider says nothing."""
    job_id = await submitted(at, **ask(fault="stall", after=1), timeout_s=1.0)
    assert (await read(at, job_id)).types[-1] == "expired"


async def check_handed_over(at: Pair, leaving: Pair, staying: Pair) -> None:
    """Check that the other version's worker finishes the job of a worker that is stopped in mid-stream."""
    body = ask(**PACED)
    staying.worker.freeze()
    job_id = await submitted(at, **body)
    async with reading(at.client, job_id) as read_next:
        while (await read_next()).type is not EventType.DELTA:
            pass
    staying.worker.thaw()
    assert await leaving.worker.terminated() == 0
    for each in (at, leaving, staying):
        story = await read(each, job_id)
        assert story.types.count("started") == 2
        assert (story.types[-1], story.text) == ("completed", expected_text(body))


async def check_cancelled_while_it_waited(at: Pair, only_worker: Pair, core: Core) -> None:
    """Check that a job that the gateway cancels while it waits leaves nothing in the queue: a worker completes it."""
    only_worker.worker.freeze()
    job_id = await submitted(at, **ask())
    answer = await at.client.post(f"/v1/jobs/{job_id}/cancel")
    assert answer.json()["status"] == "cancelled"
    only_worker.worker.thaw()
    async with asyncio.timeout(WITHIN_S):
        while await core.client.zscore(core.keys.active, job_id) is not None:
            pass
    assert await core.client.zscore(core.keys.lane(DEFAULT_LANE), job_id) is None
    assert await core.client.exists(core.keys.arq.job + job_id) == 0
    assert await core.client.hexists(core.keys.reservations, job_id) == 0  # type: ignore[misc]


@asynccontextmanager
async def only(worker: Pair, other: Pair) -> AsyncIterator[None]:
    """Let no other worker take a job."""
    other.worker.freeze()
    try:
        yield
    finally:
        other.worker.thaw()


async def check_every_mix(first: Pair, second: Pair, core: Core) -> None:
    """Each version's gateway with each version's worker."""
    for worker, other in ((first, second), (second, first)):
        async with only(worker, other):
            for gateway in (first, second):
                await asyncio.gather(check_stream(gateway, (first, second)), check_deadline(gateway))
                await check_cancelled_while_it_waited(gateway, worker, core)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedValkey]:
    """Start a server of this test's own: functions are the server's, for each prefix."""
    async with running_valkey(tmp_path / "own-valkey") as valkey:
        yield valkey


@pytest.mark.parametrize("commit", [FIRST, LATER])
@pytest.mark.parametrize("old_first", [True, False], ids=["old first", "new first"])
@pytest.mark.slow(8, "workers and gateways of two versions take turns under load")
async def test_two_versions_serve_each_others_jobs(
    settings: Settings, server: EmbeddedValkey, tmp_path: Path, commit: str, old_first: bool
) -> None:
    own = settings.model_copy(update={"redis_url": server.url, "max_attempts": 3})
    other_prefix = own.model_copy(update={"key_prefix": f"{own.key_prefix}-other", "arq_prefixed": True})
    async with (
        Processes(own, source=sources_of(commit, tmp_path / commit)) as old_processes,
        Processes(own) as new_processes,
        running_system(other_prefix) as beside,
        open_core(server.url, own.key_prefix) as core,
        running_worker(other_prefix, ControlledProvider(on_call=lambda call: call.end())),
    ):
        order = (old_processes, new_processes) if old_first else (new_processes, old_processes)
        first, second = await started(order[0]), await started(order[1])
        await check_every_mix(first, second, core)
        await check_handed_over(second, leaving=first, staying=second)
        assert (await beside.story(await beside.submit())).types[-1] == "completed"
