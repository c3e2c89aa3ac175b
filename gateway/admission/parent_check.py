"""Check that the jobs exist that a new job comes after, and belong to its tenant.

Not here: the form of the field (gateway/specs/job_parents.py). A parent may still expire before its child begins.
"""

from gateway.specs.job_parents import AFTER
from shared.model.errors import JobNotFound
from shared.model.jobs import Job, JobSpec, is_job_id
from shared.store.jobs import JobRecords


async def check_parents(store: JobRecords, spec: JobSpec) -> None:
    """Check the parents of a spec, in one round trip.

    Raises:
        JobNotFound: one of them does not exist, or belongs to another tenant; both look alike (invariant 11).
    """
    if spec.parents is None:
        return
    names = spec.parents.jobs
    jobs = await store.load_many([job_id for job_id in names.values() if is_job_id(job_id)])
    known = {job.id for job in jobs if isinstance(job, Job) and job.tenant == spec.tenant and not job.hidden}
    for name, job_id in names.items():
        if job_id not in known:
            param = f"{AFTER}.{name}"
            raise JobNotFound(f"{param}: there is no job {job_id[:64]}.", param=param)
