"""The parents of a job: the jobs that it comes after, by the names under which it refers to them.

Pure. Not here: reading them from a request (gateway/specs/job_parents.py), and the release of a job whose parents have
ended (shared/store/waiting_jobs.py).
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from shared.model.bounds import WORKFLOW_STEPS
from shared.model.events import encode_data
from shared.model.lifecycle import TERMINAL, State

MAX_PARENTS: Final = WORKFLOW_STEPS
"""The jobs that one job may come after: the steps of the largest workflow."""

GATE_PREFIX: Final = "wf_"
"""The beginning of the id of a workflow, which is a parent of its first steps until all steps are recorded."""

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


class OnParentFailure(StrEnum):
    """The effect on a job if a job that it comes after does not complete."""

    FAIL = "fail"
    RUN = "run"


class ParentEnd(StrEnum):
    """The end of a parent, as its children see it."""

    COMPLETED = "completed"
    FAILED = "failed"
    GONE = "gone"
    """The parent has no record any more, so that its end is unknown."""


def parent_end_of(status: State) -> ParentEnd | None:
    """Return the end of a parent with this status; None if it has not ended."""
    if status not in TERMINAL:
        return None
    return ParentEnd.COMPLETED if status is State.COMPLETED else ParentEnd.FAILED


def is_parent_name(name: str) -> bool:
    """Return whether a body may refer to a job by this name."""
    return _NAME.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class Parents:
    """The ids of a job's parents by their names; two names may mean one job."""

    jobs: Mapping[str, str]
    on_failure: OnParentFailure = OnParentFailure.FAIL

    @property
    def ids(self) -> tuple[str, ...]:
        """Return the parents' ids, each once."""
        return tuple(dict.fromkeys(self.jobs.values()))

    def encode(self) -> bytes:
        """Return the form in a job's record, beside `on_failure`."""
        return encode_data(dict(self.jobs))

    @classmethod
    def from_record(cls, record: Mapping[bytes, bytes]) -> Self | None:
        """Read the fields of a record; None for a job without parents.

        Raises:
            ValueError: a field is not what it should be.
        """
        if b"after" not in record:
            return None
        policy = record.get(b"on_parent_failure", b"").decode()
        return cls(json.loads(record[b"after"]), OnParentFailure(policy))
