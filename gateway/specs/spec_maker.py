"""Make the spec of a job from a decoded body, or refuse it.

Pure. Not here: decoding (gateway/model/json_body.py), and submitting a spec (gateway/admission/admission.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gateway.model.auth import Caller
from gateway.specs.brief_request import brief_of
from gateway.specs.job_parents import read_parents
from gateway.specs.job_request import JobRequest
from gateway.specs.job_webhook import read_webhook
from gateway.specs.kinds import AdmittedKinds
from gateway.specs.limits import Limits
from gateway.specs.own_fields import OWN_FIELDS, check_foreign, check_native
from gateway.specs.request_options import DISCONNECT_HEADER, LANE_HEADER, STREAM_FAILURE_HEADER, RequestOptions
from gateway.specs.validation import (
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
from shared.model.errors import InvalidRequest, ModelNotFound
from shared.model.events import encode_in_pieces
from shared.model.jobs import KEPT, Abandonment, Job, JobSpec, OnDisconnect, abandonment
from shared.model.kinds import CHAT
from shared.model.lanes import DEFAULT_LANE
from shared.model.parents import Parents
from shared.model.references import check_references
from shared.model.routes import OnStreamFailure

# No caller's Idempotency-Key begins with this: theirs are ASCII.
_REQUEUE = "↻ "
# Fields of the job API that are designed but not built: refused, so that no client relies on their being ignored.
_NOT_YET = ("conversation",)
_NATIVE = frozenset({*OWN_FIELDS, "stream_options", *_NOT_YET})


def _fingerprint(key: str | None, route: str, body: Mapping[str, Any]) -> str:
    """Make the fingerprint of a body that comes with an Idempotency-Key; others need none."""
    return "" if key is None else fingerprint_of(route, body)


@dataclass(frozen=True, slots=True)
class SpecMaker:
    """Make specs within these limits. `gateway` is the name of this process: its callers view the jobs they wait for.

    It is a value: the process that reads large requests gets a copy of it.
    """

    limits: Limits
    gateway: str
    kinds: AdmittedKinds

    def native(self, body: Mapping[str, Any], caller: Caller, key: str | None, job_id: str) -> JobSpec:
        """Make a spec from the body of `POST /v1/jobs`.

        Raises:
            InvalidRequest, Forbidden: names the field and its valid values.
        """
        kind = body.get("kind", CHAT)
        if not isinstance(kind, str) or kind not in self.kinds:
            raise InvalidRequest(f"kind must be one of: {self.kinds.names}.", param="kind")
        lane = self._lane(body["lane"], caller, "lane") if "lane" in body else self._preferred_lane(caller)
        for name in _NOT_YET:
            if name in body:
                raise InvalidRequest(f"{name} is not available in this version; leave it out.", param=name)
        check_native(body)
        on_disconnect = read_on_disconnect(body.get("on_disconnect", OnDisconnect.CONTINUE), "on_disconnect")
        abandon_after_s = body.get("abandon_after_s")
        request = self.kinds[kind].read_input(
            body, {name: value for name, value in body.items() if name not in _NATIVE}
        )
        parents = read_parents(body)
        if parents is not None:
            check_references(request, parents.jobs, has_values=not self.kinds.calls_provider(kind))
        return self._spec(
            request,
            job_id,
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
            webhook=read_webhook(body.get("webhook"), self.limits.webhook_targets),
            parents=parents,
        )

    def admit(self, call: JobRequest, caller: Caller, job_id: str) -> JobSpec:
        """Validate a call of a dialect and make the spec of its job.

        Raises:
            InvalidRequest, Forbidden: names the field and its valid values.
        """
        if self.kinds.calls_provider(call.kind):
            check_foreign(call.body)
        request, options = self.kinds[call.kind].read(call.request), call.options
        lane = self._preferred_lane(caller) if options.lane is None else self._lane(options.lane, caller, LANE_HEADER)
        return self._spec(
            request,
            job_id,
            caller.tenant,
            call.key,
            kind=call.kind,
            lane=lane,
            on_stream_failure=read_on_stream_failure(options.on_stream_failure, STREAM_FAILURE_HEADER),
            timeout_s=self.limits.timeout_s,
            metadata=call.metadata,
            fingerprint=_fingerprint(call.key, call.route, {**call.body, **options.named()}),
            abandonment=self._chosen_abandonment(options, call.on_disconnect),
            watched=call.watched,
            streaming=call.streaming,
            kept=call.kept,
            continued=call.continued,
        )

    def again(self, letter: Job, request: Mapping[str, Any], kept: Mapping[str, Any], job_id: str) -> JobSpec:
        """Make a spec that repeats a dead letter's request: a new job, which is never abandoned.

        Raises:
            InvalidRequest, ModelNotFound: its lane or its model does not exist any more.
        """
        if letter.lane not in self.limits.lanes:
            there = ", ".join(self.limits.lanes)
            raise InvalidRequest(f"The job's lane {letter.lane} does not exist; the lanes are: {there}.", param="lane")
        spec = self._spec(
            request,
            job_id,
            letter.tenant,
            None,
            kind=letter.kind,
            abandonment=Abandonment(),
            lane=letter.lane,
            on_stream_failure=letter.on_stream_failure,
            timeout_s=letter.timeout_s,
            metadata=letter.metadata,
            fingerprint="",
            kept=kept or None,
            webhook=letter.webhook,
            parents=letter.parents if letter.parents is not None and letter.parents.jobs else None,
        )
        return replace(spec, requeued_from=letter.id, idempotency_key=_REQUEUE + letter.id)

    def _spec(
        self,
        body: Mapping[str, Any],
        job_id: str,
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
        continued: bool = False,
        webhook: bytes = b"",
        parents: Parents | None = None,
    ) -> JobSpec:
        model = self._model(body) if self.kinds.calls_provider(kind) else ""
        # `stream_options` stay: a caller that resumes an answer must get the same usage.
        request = {name: value for name, value in body.items() if name != "stream"}
        if kept is not None:
            request[KEPT] = kept
        encoded = encode_in_pieces(request)
        stored = (kept or {}).get("store", body.get("store")) is not False
        return JobSpec(
            id=job_id,
            kind=kind,
            tenant=tenant,
            lane=lane,
            model=model,
            request=encoded,
            timeout_s=timeout_s,
            metadata=metadata,
            abandonment=abandonment,
            viewer=self.gateway if watched else None,
            fingerprint=fingerprint,
            idempotency_key=None if key is None else read_idempotency_key(key),
            on_stream_failure=on_stream_failure,
            webhook=webhook,
            parents=parents,
            keep_s=None if stored else self.limits.unstored_s,
            brief=b"" if continued or kept is not None else brief_of(request, len(encoded)),
            # A dialect's stream can't express a rollback, and its job has no other readers. A caller that requests a
            # rollback nevertheless gets it.
            append_only_reader=streaming
            and abandonment.on_disconnect is OnDisconnect.CANCEL
            and on_stream_failure is not OnStreamFailure.ROLLBACK,
        )

    def _model(self, body: Mapping[str, Any]) -> str:
        model, there = read_model(body), self.limits.models
        if there and model not in there:
            raise ModelNotFound(
                f"The model {model!r} does not exist; the models are: {', '.join(there)}.", param="model"
            )
        return model

    def _preferred_lane(self, caller: Caller) -> str:
        allowed = caller.lanes or self.limits.lanes
        return DEFAULT_LANE if DEFAULT_LANE in allowed else allowed[0]

    def _lane(self, asked: object, caller: Caller, param: str) -> str:
        return read_lane(asked, param, lanes=self.limits.lanes, allowed=caller.lanes or self.limits.lanes)

    def _timeout(self, value: object) -> float:
        if value is None:
            return self.limits.timeout_s
        longest = self.limits.max_timeout_s
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
        return abandonment(on_disconnect, after_s, grace_s=self.limits.grace_s)
