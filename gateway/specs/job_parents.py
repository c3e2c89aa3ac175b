"""Read the fields `after` and `on_parent_failure` of `POST /v1/jobs`: the jobs that a job comes after.

Pure. Not here: whether these jobs exist (gateway/admission/parent_check.py).
"""

from collections.abc import Mapping
from typing import Any, Final

from shared.model.errors import InvalidRequest
from shared.model.parents import MAX_PARENTS, OnParentFailure, Parents, is_parent_name

AFTER: Final = "after"
ON_PARENT_FAILURE: Final = "on_parent_failure"
_NAMES_RULE: Final = "1 to 64 letters, digits, - and _"


def read_parents(body: Mapping[str, Any]) -> Parents | None:
    """Return the parents that a body names; None without the field.

    Raises:
        InvalidRequest: names the field and its valid values.
    """
    after, policy = body.get(AFTER), body.get(ON_PARENT_FAILURE)
    if after is None:
        if policy is not None:
            raise InvalidRequest(f"{ON_PARENT_FAILURE} needs {AFTER}; leave it out.", param=ON_PARENT_FAILURE)
        return None
    return Parents(_read_jobs(after), read_parent_failure(policy))


def read_parent_failure(value: object) -> OnParentFailure:
    """Read the policy for a parent that does not complete.

    Raises:
        InvalidRequest: it is not one of the policies.
    """
    if value is None:
        return OnParentFailure.FAIL
    if not isinstance(value, str) or value not in [*OnParentFailure]:
        raise InvalidRequest(
            f"{ON_PARENT_FAILURE} must be one of: {', '.join(OnParentFailure)}.", param=ON_PARENT_FAILURE
        )
    return OnParentFailure(value)


def check_parent_name(name: str, param: str) -> None:
    """Check a name under which a body may refer to a job.

    Raises:
        InvalidRequest: it has other characters, or too many.
    """
    if not is_parent_name(name):
        raise InvalidRequest(f"{param} has the name {name[:64]!r}; a name has {_NAMES_RULE}.", param=param)


def _read_jobs(after: object) -> dict[str, str]:
    if not isinstance(after, dict) or not 0 < len(after) <= MAX_PARENTS:
        raise InvalidRequest(
            f"{AFTER} must be an object of 1 to {MAX_PARENTS} names, each with the id of a job, "
            'as in {"outline": "job_…"}.',
            param=AFTER,
        )
    for name, job_id in after.items():
        check_parent_name(name, AFTER)
        if not isinstance(job_id, str):
            raise InvalidRequest(f"{AFTER}.{name} must be the id of a job.", param=f"{AFTER}.{name}")
    return dict(after)
