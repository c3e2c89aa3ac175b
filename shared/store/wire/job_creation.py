"""The arguments of the step that creates a job, in the order of shared/store/functions/jobs.lua.

A job that waits for others has further ones, in the order of shared/store/functions/parents.lua.

Pure. Not here: the call (shared/store/jobs.py).
"""

from typing import NamedTuple

from shared.model.events import encode_data
from shared.model.job_record import RECORD_VERSION
from shared.model.jobs import VIEWER_LEASE_S, JobSpec
from shared.model.parents import Parents
from shared.model.tenant_bounds import TenantBounds
from shared.store.keys import Keys


class Step(NamedTuple):
    """The keys and arguments of one call of a function."""

    keys: list[str]
    args: list[str | bytes | int]
    function: str = "create"


def create_step(
    all_keys: Keys, spec: JobSpec, position: int, *, again: bool, bounds: TenantBounds, request_id: str = ""
) -> Step:
    """Build the call that creates a job; its caller is the first viewer if `spec` names one."""
    keys = all_keys.job(spec.id)
    arguments = _arguments(all_keys, spec, position, again, bounds)
    step = Step([keys.record, keys.request, keys.log, keys.channel], [*arguments, request_id, spec.webhook])
    if spec.viewer is not None:
        step.keys.extend((keys.viewers, keys.readers))
        step.args.extend((spec.viewer, int(VIEWER_LEASE_S * 1000)))
    return step if spec.parents is None else _waiting(step, spec, spec.parents)


def _waiting(step: Step, spec: JobSpec, parents: Parents) -> Step:
    """Build the call that creates a job which waits for its parents."""
    awaited = (*parents.ids, spec.gate) if spec.gate else parents.ids
    own = (parents.encode(), parents.on_failure.value, " ".join(awaited), int(spec.timeout_s * 1000))
    return Step(step.keys, [*own, *step.args], "create_waiting")


def _arguments(
    all_keys: Keys, spec: JobSpec, position: int, again: bool, bounds: TenantBounds
) -> list[str | bytes | int]:
    abandonment = spec.abandonment
    return [
        spec.id,
        RECORD_VERSION,
        spec.kind,
        spec.tenant,
        spec.lane,
        spec.model,
        spec.request,
        int(spec.lifetime_s * 1000),
        0 if abandonment.first_viewer_timeout_s is None else max(int(abandonment.first_viewer_timeout_s * 1000), 1),
        encode_data(dict(spec.metadata)),
        position,
        abandonment.on_disconnect.value,
        "" if abandonment.disconnect_grace_s is None else int(abandonment.disconnect_grace_s * 1000),
        spec.on_stream_failure or "",
        "1" if spec.append_only_reader else "",
        spec.requeued_from or "",
        _optional_ms(spec.keep_s),
        "" if spec.idempotency_key is None else f"{spec.fingerprint} {spec.idempotency_key}",
        "1" if again else "",
        all_keys.kept_bytes(spec.tenant),
        "" if bounds.bytes_of_new is None else bounds.bytes_of_new,
        "" if bounds.bytes is None else bounds.bytes,
        spec.brief,
    ]


def _optional_ms(seconds: float | None) -> int | str:
    """Convert to milliseconds; at least 1, since the functions read 0 as never."""
    return "" if seconds is None else max(int(seconds * 1000), 1)
