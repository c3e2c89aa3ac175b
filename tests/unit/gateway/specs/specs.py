"""Jobs that admission makes of requests, for the tests of this folder."""

from collections.abc import Mapping
from typing import Any

from gateway.model.auth import Caller
from gateway.specs.job_request import JobRequest
from gateway.specs.kinds import ADMITTED_KINDS
from gateway.specs.limits import Limits
from gateway.specs.request_options import RequestOptions
from gateway.specs.spec_maker import SpecMaker
from gateway.specs.validation import read_metadata
from shared.model.jobs import JobSpec, OnDisconnect
from shared.model.kinds import EMBEDDINGS

MESSAGES = [{"role": "user", "content": "Hello?"}]
BODY: dict[str, Any] = {"model": "m", "messages": MESSAGES}
LANES = ("high", "default", "low")
LIMITS = Limits(
    timeout_s=600.0,
    max_timeout_s=3600.0,
    retention_s=60.0,
    unstored_s=20.0,
    listed_s=60.0,
    max_depth=10,
    grace_s=5.0,
    models=(),
    lanes=LANES,
)
GATEWAY = "gateway-1"
CANCEL, CONTINUE = OnDisconnect.CANCEL, OnDisconnect.CONTINUE
ALICE = Caller("alice")
JOB, NEW = "job_" + "0" * 26, "job_" + "1" * 26


def specs(limits: Limits = LIMITS) -> SpecMaker:
    return SpecMaker(limits, GATEWAY, ADMITTED_KINDS)


def native(body: Mapping[str, Any], key: str | None = None, caller: Caller = ALICE) -> JobSpec:
    return specs().native(body, caller, key, JOB)


def chat(
    body: Mapping[str, Any],
    key: str | None = None,
    caller: Caller = ALICE,
    lane: str | None = None,
    options: RequestOptions | None = None,
) -> JobSpec:
    return specs().admit(JobRequest("chat.completions", body, body, options or RequestOptions(lane), key), caller, JOB)


def respond(
    body: Mapping[str, Any],
    key: str | None = "key",
    *,
    options: RequestOptions,
    kept: Mapping[str, Any],
    background: bool = False,
    streaming: bool = False,
) -> JobSpec:
    call = JobRequest(
        "responses",
        BODY,
        body,
        options,
        key,
        on_disconnect=CONTINUE if background else CANCEL,
        metadata=read_metadata(body.get("metadata")),
        watched=streaming or not background,
        streaming=streaming,
        kept=kept,
    )
    return specs().admit(call, ALICE, JOB)


def with_(**fields: Any) -> dict[str, Any]:
    return {**BODY, **fields}


def response(
    body: Mapping[str, Any],
    *,
    background: bool = False,
    streaming: bool = True,
    lane: str | None = None,
    abandon_after: str | None = None,
) -> JobSpec:
    options = RequestOptions(lane, abandon_after=abandon_after)
    return respond(body, options=options, kept={"store": True}, background=background, streaming=streaming)


def embeddings(body: Mapping[str, Any], key: str | None = None, lane: str | None = None) -> JobSpec:
    return specs().admit(JobRequest("embeddings", body, body, RequestOptions(lane), key, kind=EMBEDDINGS), ALICE, JOB)
