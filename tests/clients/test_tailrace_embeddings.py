"""Test `tailrace submit --embed` against real gateways and workers."""

import json
import struct

import pytest

from gateway.client.model.exit_status import ExitStatus
from tests.clients.commands import Tailrace, detached, one_sentence, screen, script
from worker.upstream.providers.scripted import embed
from worker.upstream.wire.vectors import read_vectors

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def refused(tailrace: Tailrace, model: str) -> str:
    """Make a job that has failed for good; return its id."""
    prompt = script(tokens=2, fault="refuse", code="insufficient_quota", message="Not that.")
    job_id = await detached(tailrace, "--model", model, prompt)
    assert (await tailrace("tail", job_id)).status == ExitStatus.FAILED
    return job_id


def vectors_of(inputs: list[str]) -> list[list[float]]:
    """Return the upstream's vectors of these inputs."""
    read = read_vectors(embed({"input": inputs}), len(inputs))
    return [list(vector) for vector in struct.iter_unpack(f"<{read.dimensions}f", read.data)]


async def test_lines_are_embedded_and_a_pipe_gets_a_vector_a_line(tailrace: Tailrace, model: str) -> None:
    lines = [f"line {n}" for n in range(101)]

    ended = await tailrace("submit", "--model", model, "--embed", "-", stdin="\n".join(lines).encode())

    assert (ended.status, ended.errors) == (ExitStatus.COMPLETE, "")
    assert [json.loads(line) for line in ended.output.splitlines()] == vectors_of(lines)


async def test_a_terminal_shows_a_jobs_progress_and_where_its_vectors_are(tailrace: Tailrace, model: str) -> None:
    job_id = await detached(tailrace, "--model", model, "--embed", "\n".join(["a"] * 101))
    events = await tailrace("tail", job_id, "--events")
    vectors = await tailrace("tail", job_id)

    assert [json.loads(line)["event"] for line in events.output.splitlines()] == [
        "queued",
        "started",
        "progress",
        "progress",
        "completed",
    ]
    assert vectors.output.count("\n") == 101
    shown = screen((await tailrace("tail", job_id, terminal=True)).output)
    assert "101 of 101 inputs" in shown and "100 of 101 inputs" not in shown
    assert f"101 vectors. To have them: tailrace tail {job_id} > FILE" in "".join(shown.splitlines())


async def test_an_upstream_that_refuses_an_input_is_quoted(tailrace: Tailrace, model: str) -> None:
    refused = script(fault="refuse", code="content_policy_violation", message="Too rude.")
    ended = await tailrace("submit", "--model", model, "--embed", refused)

    assert ended.status == ExitStatus.FAILED
    assert (ended.output, "Too rude." in one_sentence(ended)) == ("", True)
