"""Submit jobs to `/v1/jobs`, and read the lane in which they wait.

Not here: the workers' side of a job (log_writer.py).
"""

from typing import Any

from shared.model.lanes import DEFAULT_LANE
from tests.support.client import Answer, Client
from tests.support.log_writer import PROMPT, JobSide

JOBS = "/v1/jobs"
BODY: dict[str, Any] = {"model": "scripted", "messages": PROMPT}


async def submit(client: Client, body: dict[str, Any] | None = None, key: str | None = None) -> Answer:
    return await client.post(JOBS, body or BODY, headers={} if key is None else {"Idempotency-Key": key})


async def submitted(client: Client, **fields: Any) -> str:
    answer = await submit(client, {**BODY, **fields})
    assert answer.status == 202, answer.body
    job_id: str = answer.json()["id"]
    return job_id


async def jobs_in_lane(writing: JobSide) -> list[str]:
    return [job.decode() for job in await writing.client.zrange(writing.keys.lane(DEFAULT_LANE), 0, -1)]
