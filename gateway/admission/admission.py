"""Decide whether a request may enter, and make the spec of a job from its decoded body.

Not here: reading bodies, recording and queueing (intake.py), showing jobs.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gateway.admission.auth import Caller
from gateway.admission.brief_request import brief_of
from gateway.admission.intake import Intake
from gateway.admission.job_request import JobRequest
from gateway.admission.kinds import ADMITTED_KINDS, AdmittedKinds
from gateway.admission.own_fields import OWN_FIELDS, check_foreign, check_native
from gateway.admission.request_options import DISCONNECT_HEADER, LANE_HEADER, STREAM_FAILURE_HEADER, RequestOptions
from gateway.admission.strict_models import StrictModels
from gateway.admission.validation import (
    fingerprint_of,
    read_header_seconds,
    read_idempotency_key,
    read_lane,
    read_metadata,
    read_model,
    read_on_disconnect,
    read_on_stream_failure,
    read_seconds,
)
from gateway.http.middleware import current_request_id
from shared.model.errors import InvalidRequest, ModelNotFound
from shared.model.events import encode_in_pieces
from shared.model.jobs import (
    KEPT,
    Abandonment,
    Job,
    JobSpec,
    OnDisconnect,
    abandonment,
    new_job_id,
)
from shared.model.kinds import CHAT
from shared.model.lanes import DEFAULT_LANE
from shared.model.routes import OnStreamFailure
from shared.model.tenant_bounds import UNBOUNDED, TenantBounds
from shared.process.clock import Clock
from shared.store.jobs import Store
from shared.store.memory_watch import MemoryWatch
from shared.store.queue import Queue

_RANDOM_BITS = 80
# No caller's Idempotency-Key begins with this: theirs are ASCII.
_REQUEUE = "↻ "
# Fields of the job API that are designed but not built: refused, so that no client relies on their being ignored.
_NOT_YET = ("webhook", "after", "conversation")
_NATIVE = frozenset({*OWN_FIELDS, "stream_options", *_NOT_YET})


@dataclass(frozen=True, slots=True)
class Limits:
    """Hold the limits that admission enforces."""

    timeout_s: float
    max_timeout_s: float
    retention_s: float
    unstored_s: float
    listed_s: float
    max_depth: int
    grace_s: float
    models: Sequence[str]
    lanes: Sequence[str]
    bounds: TenantBounds = UNBOUNDED


def _fingerprint(key: str | None, route: str, body: Mapping[str, Any]) -> str:
    """Make the fingerprint of a body that comes with an Idempotency-Key; others need none."""
    return "" if key is None else fingerprint_of(route, body)


class Admission:
    """Admit jobs. `gateway` is the name of this process: its callers view the jobs that they wait for."""

    def __init__(
        self,
        store: Store,
        queue: Queue,
        clock: Clock,
        limits: Limits,
        gateway: str,
        strict_models: StrictModels | None = None,
        memory: MemoryWatch | None = None,
        kinds: AdmittedKinds = ADMITTED_KINDS,
    ) -> None:
        self._intake = Intake(
            store,
            queue,
            max_depth=limits.max_depth,
            retention_s=limits.retention_s,
            listed_s=limits.listed_s,
            bounds=limits.bounds,
        )
        self._clock = clock
        self._limits = limits
        self._gateway = gateway
        self._strict_models = strict_models
        self._memory = memory
        self._kinds = kinds

    def native(self, body: Mapping[str, Any], caller: Caller, key: str | None) -> JobSpec:
        """Make a spec from the body of `POST /v1/jobs`.

        Raises:
            InvalidRequest, Forbidden: names the field and its valid values.
        """
        kind = body.get("kind", CHAT)
        if not isinstance(kind, str) or kind not in self._kinds:
            raise InvalidRequest(f"kind must be one of: {self._kinds.names}.", param="kind")
        lane = self._lane(body["lane"], caller, "lane") if "lane" in body else self._preferred_lane(caller)
        for name in _NOT_YET:
            if name in body:
                raise InvalidRequest(f"{name} is not available in this version; leave it out.", param=name)
        check_native(body)
        on_disconnect = read_on_disconnect(body.get("on_disconnect", OnDisconnect.CONTINUE), "on_disconnect")
        abandon_after_s = body.get("abandon_after_s")
        request = self._kinds[kind].read_input(
            body, {name: value for name, value in body.items() if name not in _NATIVE}
        )
        return self._spec(
            request,
            caller.tenant,
            key,
            kind=kind,
            lane=lane,
            timeout_s=self._timeout(body.get("timeout_s")),
            metadata=read_metadata(body.get("metadata")),
            fingerprint=_fingerprint(key, "jobs", body),
            abandonment=self._abandonment(
                on_disconnect, None if abandon_after_s is None else read_seconds(abandon_after_s, "abandon_after_s")
            ),
            on_stream_failure=read_on_stream_failure(body.get("on_stream_failure"), "on_stream_failure"),
        )

    def admit(self, call: JobRequest, caller: Caller) -> JobSpec:
        """Validate a call of a dialect and make the spec of its job.

        Raises:
            InvalidRequest, Forbidden: names the field and its valid values.
        """
        check_foreign(call.body)
        request, options = self._kinds[call.kind].read(call.request), call.options
        lane = self._preferred_lane(caller) if options.lane is None else self._lane(options.lane, caller, LANE_HEADER)
        return self._spec(
            request,
            caller.tenant,
            call.key,
            kind=call.kind,
            lane=lane,
            on_stream_failure=read_on_stream_failure(options.on_stream_failure, STREAM_FAILURE_HEADER),
            timeout_s=self._limits.timeout_s,
            metadata=call.metadata,
            fingerprint=_fingerprint(call.key, call.route, {**call.body, **options.named()}),
            abandonment=self._chosen_abandonment(options, call.on_disconnect),
            watched=call.watched,
            streaming=call.streaming,
            kept=call.kept,
            job_id=call.job_id,
        )

    def again(self, letter: Job, request: Mapping[str, Any], kept: Mapping[str, Any]) -> JobSpec:
        """Make a spec that repeats a dead letter's request: a new job, which is never abandoned.

        Raises:
            InvalidRequest, ModelNotFound: its lane or its model does not exist any more.
        """
        if letter.lane not in self._limits.lanes:
            there = ", ".join(self._limits.lanes)
            raise InvalidRequest(f"The job's lane {letter.lane} does not exist; the lanes are: {there}.", param="lane")
        spec = self._spec(
            request,
            letter.tenant,
            None,
            kind=letter.kind,
            abandonment=Abandonment(),
            lane=letter.lane,
            on_stream_failure=letter.on_stream_failure,
            timeout_s=(letter.deadline_ms - letter.created_ms) / 1000,
            metadata=letter.metadata,
            fingerprint="",
            kept=kept or None,
        )
        return replace(spec, requeued_from=letter.id, idempotency_key=_REQUEUE + letter.id)

    def new_id(self) -> str:
        """Make an id for a future job."""
        return new_job_id(self._clock.wall_ms(), secrets.randbits(_RANDOM_BITS))

    def _spec(
        self,
        body: Mapping[str, Any],
        tenant: str,
        key: str | None,
        *,
        kind: str = CHAT,
        lane: str,
        timeout_s: float,
        metadata: Mapping[str, str],
        fingerprint: str,
        on_stream_failure: OnStreamFailure | None,
        abandonment: Abandonment,
        watched: bool = False,
        streaming: bool = False,
        kept: Mapping[str, Any] | None = None,
        job_id: str | None = None,
    ) -> JobSpec:
        model, there = read_model(body), self._limits.models
        if there and model not in there:
            raise ModelNotFound(
                f"The model {model!r} does not exist; the models are: {', '.join(there)}.", param="model"
            )
        # `stream_options` stay: a caller that resumes an answer must get the same usage.
        request = {name: value for name, value in body.items() if name != "stream"}
        if kept is not None:
            request[KEPT] = kept
        encoded = encode_in_pieces(request)
        # Later requests may continue a response, or a turn, although it got no answer.
        continued = kept is not None or job_id is not None
        stored = (kept or {}).get("store", body.get("store")) is not False
        return JobSpec(
            id=job_id or self.new_id(),
            kind=kind,
            tenant=tenant,
            lane=lane,
            model=model,
            request=encoded,
            timeout_s=timeout_s,
            metadata=metadata,
            abandonment=abandonment,
            viewer=self._gateway if watched else None,
            fingerprint=fingerprint,
            idempotency_key=None if key is None else read_idempotency_key(key),
            on_stream_failure=on_stream_failure,
            keep_s=None if stored else self._limits.unstored_s,
            brief=b"" if continued else brief_of(request, len(encoded)),
            # A dialect's stream can't express a rollback, and its job has no other readers. A caller that requests a
            # rollback nevertheless gets it.
            append_only_reader=streaming
            and abandonment.on_disconnect is OnDisconnect.CANCEL
            and on_stream_failure is not OnStreamFailure.ROLLBACK,
        )

    def _preferred_lane(self, caller: Caller) -> str:
        allowed = caller.lanes or self._limits.lanes
        return DEFAULT_LANE if DEFAULT_LANE in allowed else allowed[0]

    def _lane(self, asked: object, caller: Caller, param: str) -> str:
        return read_lane(asked, param, lanes=self._limits.lanes, allowed=caller.lanes or self._limits.lanes)

    def _timeout(self, value: object) -> float:
        if value is None:
            return self._limits.timeout_s
        longest = self._limits.max_timeout_s
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= longest:
            raise InvalidRequest(
                f"timeout_s must be a number of seconds, more than 0 and at most {longest:g}.",
                param="timeout_s",
            )
        return float(value)

    def _chosen_abandonment(self, options: RequestOptions, default: OnDisconnect) -> Abandonment:
        asked = options.on_disconnect
        policy = default if asked is None else read_on_disconnect(asked, DISCONNECT_HEADER)
        return self._abandonment(policy, read_header_seconds(options.abandon_after))

    def _abandonment(self, on_disconnect: OnDisconnect, after_s: float | None) -> Abandonment:
        return abandonment(on_disconnect, after_s, grace_s=self._limits.grace_s)

    async def check_model(self, spec: JobSpec) -> None:
        """Raise ModelNotFound if models are strict and this one does not exist."""
        if self._strict_models is not None:
            await self._strict_models.check(spec.model)

    async def submit(self, spec: JobSpec) -> Job:
        """Record and queue the job; return it, or the one that its Idempotency-Key has made before.

        Raises:
            BoundReached, IdempotencyConflict, ModelNotFound, MemoryFull: nothing was stored.
        """
        if self._memory is not None:
            await self._memory.refuse_if_full()
        await self.check_model(spec)
        return await self._intake.submit(spec, current_request_id())
