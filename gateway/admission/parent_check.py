"""Check that the jobs exist that new jobs come after, and belong to their tenant.

Not here: the form of the field (gateway/specs/job_parents.py). A parent may still expire before its child begins.
"""

from collections.abc import Mapping
from typing import Final

from gateway.specs.job_parents import AFTER
from shared.model.errors import JobNotFound
from shared.model.jobs import Job, JobSpec, is_job_id
from shared.store.jobs import JobRecords

_LOADED_AT_ONCE: Final = 256


async def check_parents(store: JobRecords, spec: JobSpec) -> None:
    """Check the parents of a spec, in one round trip.

    Raises:
        JobNotFound: one of them does not exist, or belongs to another tenant; both look alike (invariant 11).
    """
    if spec.parents is not None:
        await _check(store, spec.tenant, {f"{AFTER}.{name}": job_id for name, job_id in spec.parents.jobs.items()})


async def check_parents_of_steps(store: JobRecords, steps: Mapping[str, JobSpec]) -> None:
    """Check the parents of a workflow's steps that are not steps themselves. Raises as `check_parents`."""
    own = {spec.id for spec in steps.values()}
    for tenant in {spec.tenant for spec in steps.values()}:
        params = {
            f"steps.{step}.{AFTER}.{name}": job_id
            for step, spec in steps.items()
            if spec.parents is not None
            for name, job_id in spec.parents.jobs.items()
            if job_id not in own
        }
        await _check(store, tenant, params)


async def _check(store: JobRecords, tenant: str, params: Mapping[str, str]) -> None:
    """Check these jobs, each by the field that names it."""
    ids = list({job_id for job_id in params.values() if is_job_id(job_id)})
    known: set[str] = set()
    for begin in range(0, len(ids), _LOADED_AT_ONCE):
        jobs = await store.load_many(ids[begin : begin + _LOADED_AT_ONCE])
        known |= {job.id for job in jobs if isinstance(job, Job) and job.tenant == tenant and not job.hidden}
    for param, job_id in params.items():
        if job_id not in known:
            raise JobNotFound(f"{param}: there is no job {job_id[:64]}.", param=param)
