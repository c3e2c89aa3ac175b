"""Test `tailrace dead-letters` against real gateways and workers."""

import asyncio
import json
from typing import Any

import pytest

from gateway.client.model.exit_status import ExitStatus
from tests.clients.commands import NO_SUCH_JOB, Ended, Tailrace, detached, one_sentence, script
from tests.clients.system import System
from tests.support.core import TIMEOUT_S

pytestmark = pytest.mark.asyncio(loop_scope="package")


@pytest.fixture
def root(system: System) -> Tailrace:
    """Return an admin's command line."""
    return Tailrace(system.url, "sk-root")


async def refused(tailrace: Tailrace, model: str) -> str:
    """Make a job that has failed for good; return its id."""
    prompt = script(tokens=2, fault="refuse", code="insufficient_quota", message="Not that.")
    job_id = await detached(tailrace, "--model", model, prompt)
    assert (await tailrace("tail", job_id)).status == ExitStatus.FAILED
    return job_id


async def listed(root: Tailrace, model: str, *options: str, count: int) -> list[dict[str, Any]]:
    """Return the dead letters that asked for a model, once there are so many: they follow the end of their jobs."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            ended = await root("dead-letters", "--json", "--model", model, *options)
            assert ended.status == ExitStatus.COMPLETE, ended
            if len(found := [json.loads(line) for line in ended.output.splitlines()]) == count:
                return found


async def test_dead_letters_are_listed_and_looked_at(tailrace: Tailrace, root: Tailrace, model: str) -> None:
    first, second = await refused(tailrace, model), await refused(tailrace, model)

    letters = await listed(root, model, count=2)
    as_table = await root("dead-letters", "list", "--model", model, "--limit", "1")
    shown = await root("dead-letters", "show", first)

    assert {each["id"] for each in letters} == {first, second}
    assert as_table.output.splitlines()[1].split()[1:4] == ["insufficient_quota", "alice", model]
    assert len(as_table.output.splitlines()) == 2
    assert "Not that." in json.loads(shown.output)["request"]["messages"][0]["content"]
    assert (await root("dead-letters", "--tenant", "nobody")).output == ""


async def test_dead_letters_are_requeued_by_name_and_again_as_the_same(
    tailrace: Tailrace, root: Tailrace, model: str
) -> None:
    job_id = await refused(tailrace, model)
    await listed(root, model, count=1)

    first, second = [await root("dead-letters", "requeue", job_id) for _ in range(2)]
    (as_json,) = (await root("dead-letters", "requeue", "--json", job_id)).output.splitlines()
    (requeued,) = await listed(root, model, "--requeued", "true", count=1)

    assert first == second == Ended(0, f"{job_id} {requeued['requeued_as']}\n", "")
    assert json.loads(as_json)["requeued_from"] == job_id
    assert (await tailrace("tail", requeued["requeued_as"])).status == ExitStatus.FAILED


async def test_dead_letters_are_requeued_and_deleted_by_filters(tailrace: Tailrace, root: Tailrace, model: str) -> None:
    jobs = {await refused(tailrace, model) for _ in range(2)}
    await listed(root, model, count=2)

    requeued = await root("dead-letters", "requeue", "--all", "--model", model)
    new = {line.split()[0]: line.split()[1] for line in requeued.output.splitlines()}
    assert (requeued.status, set(new)) == (0, jobs)
    again = {each["id"] for each in await listed(root, model, count=2)}
    assert again == set(new.values())

    one, *rest = sorted(again)
    assert await root("dead-letters", "delete", one) == Ended(0, f"{one} deleted\n", "")
    deleted = await root("dead-letters", "delete", "--model", model)
    assert deleted == Ended(0, "".join(f"{each} deleted\n" for each in rest), "")
    assert await listed(root, model, count=0) == []


async def test_dead_letters_are_for_admins(tailrace: Tailrace, root: Tailrace) -> None:
    forbidden = await tailrace("dead-letters")
    unknown = await root("dead-letters", "show", NO_SUCH_JOB)
    one_of_two = await root("dead-letters", "delete", NO_SUCH_JOB)

    assert [each.status for each in (forbidden, unknown, one_of_two)] == [ExitStatus.REFUSED] * 3
    assert "admin key" in one_sentence(forbidden)
    assert one_sentence(unknown) == one_sentence(one_of_two) == f"There is no dead letter {NO_SUCH_JOB}."
