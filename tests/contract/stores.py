"""Reads and writes of a job's keys, for the tests of this folder."""

from shared.model.jobs import JobSpec
from tests.support.core import Core


async def set_field(core: Core, job_id: str, **fields: str | int) -> None:
    await core.client.hset(core.keys.job(job_id).record, mapping=fields)  # type: ignore[misc]


async def expiries(core: Core, spec_or_id: JobSpec | str) -> list[int]:
    """Return when each of the job's keys expires (ms), -1 never, -2 not there."""
    keys = core.keys.job(spec_or_id if isinstance(spec_or_id, str) else spec_or_id.id)
    names = (keys.record, keys.request, keys.log, keys.result)
    return [int(await core.client.execute_command("PEXPIRETIME", name)) for name in names]
