"""Test the jobs of a prompt, on a real server."""

from shared.model.bounds import SAME_PROMPTS
from shared.store.prompts import Prompts
from tests.support.core import Core


async def test_a_tenants_jobs_are_found_by_their_prompt_the_latest_first(core: Core) -> None:
    prompts = Prompts(core.client, core.keys)
    for job_id in ("job_1", "job_2"):
        await prompts.add("alice", "one", job_id, keep_s=60)
    await prompts.add("alice", "two", "job_3", keep_s=60)

    assert await prompts.jobs("alice", ["two", "none", "one"]) == [["job_3"], [], ["job_2", "job_1"]]
    assert await prompts.jobs("bob", ["one", "two"]) == [[], []]
    assert await prompts.jobs("alice", []) == []


async def test_a_prompt_keeps_its_latest_jobs_for_a_bounded_time(core: Core) -> None:
    prompts = Prompts(core.client, core.keys)
    for number in range(SAME_PROMPTS + 2):
        await prompts.add("alice", "one", f"job_{number}", keep_s=60)

    (jobs,) = await prompts.jobs("alice", ["one"])
    assert jobs == [f"job_{number}" for number in reversed(range(2, SAME_PROMPTS + 2))]
    assert 0 < await core.client.pttl(core.keys.prompt("alice", "one")) <= 60_000
