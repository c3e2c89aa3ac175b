"""The stored fields of a job, parsed: its record, and the readable rest of a broken record.

Not here: the calls that read them (jobs.py), and the job's rules (shared/model/jobs.py).
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from redis.exceptions import ResponseError

from shared.model.errors import BrokenJob, JobNotFound
from shared.model.job_record import job_from_record
from shared.model.jobs import Job, Place
from shared.model.lanes import DEFAULT_LANE
from shared.model.lifecycle import TERMINAL

_TERMINAL: Final = frozenset(state.value.encode() for state in TERMINAL)
REMAINS_FIELDS: Final = ["status", "lane", "deadline", "tenant"]
"""The fields that `parse_remains` needs, in order."""


class Remains(NamedTuple):
    """The readable part of a broken record: the job's place, and its deadline (ms) if the record has one."""

    place: Place
    deadline_ms: int | None


def parse_job(job_id: str, record: Mapping[bytes, bytes]) -> Job:
    """Parse a record.

    Raises:
        JobNotFound: the record is empty.
        BrokenJob: this version can't read it.
    """
    if not record:
        raise JobNotFound(f"There is no job {job_id}.")
    return job_from_record(job_id, record)


def readable(job_id: str, record: Mapping[bytes, bytes] | ResponseError) -> Job | BrokenJob | None:
    """Parse one record of many; None if it is gone."""
    if isinstance(record, ResponseError):  # of this record only: servers that can't serve raise
        return BrokenJob(f"The job's record can't be read: {record}.")
    try:
        return job_from_record(job_id, record) if record else None
    except BrokenJob as error:
        return error


def parse_remains(job_id: str, fields: list[bytes | None]) -> Remains | None:
    """Parse `REMAINS_FIELDS` of a broken record; None if the job has ended or is gone.

    An unknown lane is served like the others: the worker that takes the job ends it.
    """
    status, lane, deadline, tenant = fields
    if status is None or status in _TERMINAL:
        return None
    names = ((lane or DEFAULT_LANE.encode()), tenant or b"")
    place = Place(job_id, names[0].decode("utf-8", "replace"), True, names[1].decode("utf-8", "replace"))
    return Remains(place, int(deadline) if deadline is not None and deadline.isdigit() else None)
