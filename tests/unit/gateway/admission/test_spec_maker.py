"""Test the maker of specs: a decoded body in, a spec or an error that names the field and the valid value out."""

import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from gateway.admission.auth import Caller
from gateway.admission.job_request import JobRequest
from gateway.admission.kinds import ADMITTED_KINDS
from gateway.admission.limits import Limits
from gateway.admission.request_options import RequestOptions
from gateway.admission.spec_maker import SpecMaker
from gateway.admission.validation import read_metadata
from shared.model.errors import Forbidden, InvalidRequest, ModelNotFound, RequestError
from shared.model.job_record import job_from_record
from shared.model.jobs import VIEWER_LEASE_S, Abandonment, Job, JobSpec, OnDisconnect
from shared.model.kinds import EMBEDDINGS
from shared.model.routes import OnStreamFailure

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


def turn(body: Mapping[str, Any]) -> JobSpec:
    return turn_with(body, RequestOptions())


def turn_with(body: Mapping[str, Any], options: RequestOptions) -> JobSpec:
    call = JobRequest("ai_sdk.chat", body, {}, options, on_disconnect=CONTINUE, continued=True)
    return specs().admit(call, ALICE, JOB)


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


def refusal(body: Mapping[str, Any]) -> RequestError:
    with pytest.raises(InvalidRequest) as caught:
        native(body)
    return caught.value


def test_a_native_job_has_the_defaults_of_the_settings_and_lives_without_a_reader() -> None:
    spec = native(BODY)
    assert spec.id == JOB
    assert (spec.kind, spec.tenant, spec.lane, spec.model) == ("chat", "alice", "default", "m")
    assert (spec.timeout_s, spec.metadata, spec.idempotency_key) == (600.0, {}, None)
    assert (spec.abandonment, spec.viewer) == (Abandonment(), None)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"on_disconnect": "continue"}, Abandonment()),
        ({"on_disconnect": "cancel"}, Abandonment(CANCEL, VIEWER_LEASE_S, 5)),
        ({"abandon_after_s": 60}, Abandonment(CONTINUE, 60, 60)),
        ({"on_disconnect": "cancel", "abandon_after_s": 60}, Abandonment(CANCEL, 60, 5)),
        ({"on_disconnect": "cancel", "abandon_after_s": 0.5}, Abandonment(CANCEL, 0.5, 0.5)),
        ({"abandon_after_s": None}, Abandonment()),
    ],
)
def test_a_job_says_what_becomes_of_it_without_viewers(fields: dict[str, Any], expected: Abandonment) -> None:
    assert native(with_(**fields)).abandonment == expected


def test_a_chat_call_lives_as_long_as_its_caller_who_views_it_from_the_start() -> None:
    spec = chat(BODY)
    assert spec.abandonment == Abandonment(CANCEL, VIEWER_LEASE_S, 5)
    assert spec.viewer == GATEWAY


def test_a_dialect_has_the_same_in_headers() -> None:
    assert chat(BODY, options=RequestOptions(on_disconnect="continue")).abandonment == Abandonment()
    assert chat(BODY, options=RequestOptions(abandon_after="1e1")).abandonment == Abandonment(CANCEL, 10, 5)
    on = Abandonment(CONTINUE, 2.5, 2.5)
    options = RequestOptions(on_disconnect="continue", abandon_after="2.5")
    assert chat(BODY, options=options).abandonment == on
    assert response({}, background=True, abandon_after="2.5").abandonment == on
    turn = turn_with(BODY, RequestOptions(abandon_after="2.5"))
    assert (turn.abandonment, turn.viewer) == (on, GATEWAY)


@pytest.mark.parametrize(
    ("headers", "param", "hint"),
    [
        ({"on_disconnect": "stop"}, "X-Tailrace-On-Disconnect", "must be one of: continue, cancel"),
        ({"on_disconnect": ""}, "X-Tailrace-On-Disconnect", "must be one of: continue, cancel"),
        ({"abandon_after": "soon"}, "X-Tailrace-Abandon-After", "more than 0 and at most 604800"),
        ({"abandon_after": ""}, "X-Tailrace-Abandon-After", "more than 0 and at most 604800"),
        ({"abandon_after": "nan"}, "X-Tailrace-Abandon-After", "more than 0 and at most 604800"),
        ({"abandon_after": "-1"}, "X-Tailrace-Abandon-After", "more than 0 and at most 604800"),
    ],
)
def test_a_wrong_header_is_named_with_what_would_be_right(headers: dict[str, Any], param: str, hint: str) -> None:
    with pytest.raises(InvalidRequest, match=hint) as caught:
        chat(BODY, options=RequestOptions(**headers))
    assert caught.value.param == param


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


def test_a_response_is_a_chat_with_what_it_says_again_beside_it() -> None:
    spec = response({"metadata": {"a": "b"}}, lane="low")
    assert json.loads(spec.request) == {**BODY, "tailrace": {"store": True}}
    assert (spec.kind, spec.lane, spec.metadata, spec.idempotency_key) == ("chat", "low", {"a": "b"}, "key")
    assert spec.abandonment == Abandonment(CANCEL, VIEWER_LEASE_S, 5)


def test_a_response_in_the_background_goes_on_without_a_reader() -> None:
    assert response({}, background=True).abandonment == Abandonment()
    assert response({}, background=True).viewer == GATEWAY
    assert response({}, background=True, streaming=False).viewer is None


def test_a_response_is_the_same_if_it_was_asked_in_the_same_words() -> None:
    asked = response({"input": "Hello?"})
    assert response({"input": "Hello?"}).fingerprint == asked.fingerprint
    assert response({"input": "Hello!"}).fingerprint != asked.fingerprint


@pytest.mark.parametrize(
    "given",
    [RequestOptions("low"), RequestOptions(on_stream_failure="fail"), RequestOptions("low", "fail")],
    ids=["lane", "policy", "both"],
)
def test_who_wishes_something_else_under_a_key_asks_for_something_else(given: RequestOptions) -> None:
    def fingerprints(options: RequestOptions) -> tuple[str, str]:
        called = chat(BODY, "key", options=options)
        answered = respond({}, options=options, kept={})
        return called.fingerprint, answered.fingerprint

    plain = fingerprints(RequestOptions())
    assert fingerprints(RequestOptions()) == plain
    assert not {*fingerprints(given)} & {*plain}


@pytest.mark.parametrize(
    ("streaming", "options", "append_only_reader"),
    [
        (True, RequestOptions(), True),
        (False, RequestOptions(), False),
        (True, RequestOptions(on_disconnect="continue"), False),
        (True, RequestOptions(on_stream_failure="continue"), True),
        (True, RequestOptions(on_stream_failure="rollback"), False),
    ],
)
def test_a_stream_that_lives_for_its_caller_alone_is_never_started_over(
    streaming: bool, options: RequestOptions, append_only_reader: bool
) -> None:
    call = JobRequest("chat.completions", BODY, BODY, options, "key", streaming=streaming)
    assert specs().admit(call, ALICE, JOB).append_only_reader == append_only_reader
    answered = respond({}, options=options, kept={}, streaming=streaming)
    assert answered.append_only_reader == append_only_reader
    assert not native(BODY).append_only_reader


def test_a_policy_is_kept_beside_the_request() -> None:
    for spec in (
        native(with_(on_stream_failure="rollback")),
        chat(BODY, options=RequestOptions(on_stream_failure="rollback")),
    ):
        assert (spec.on_stream_failure, json.loads(spec.request)) == (OnStreamFailure.ROLLBACK, BODY)
    assert native(BODY).on_stream_failure is None


def test_a_responses_metadata_and_lane_are_checked_like_a_jobs() -> None:
    for metadata, lane, param in (({"a": 1}, None, "metadata"), ({}, "fast", "X-Tailrace-Lane")):
        with pytest.raises(InvalidRequest) as caught:
            response({"metadata": metadata}, lane=lane)
        assert caught.value.param == param


@pytest.mark.parametrize("make", [native, chat], ids=["native", "chat"])
def test_nobody_else_may_use_the_name_of_what_is_kept(make: Callable[[Mapping[str, Any]], JobSpec]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        make(with_(tailrace={"store": False}))
    assert caught.value.param == "tailrace"


def test_any_chat_parameter_is_passed_through_and_ours_are_not() -> None:
    tools = [{"type": "function", "function": {"name": "look"}}]
    extra = {"temperature": 0.5, "tools": tools, "n": 2, "something_new": {"a": [1]}}
    ours = {
        "kind": "chat",
        "lane": "default",
        "timeout_s": 5,
        "metadata": {"a": "b"},
        "on_disconnect": "continue",
        "on_stream_failure": "fail",
    }
    ways = {"stream": True, "stream_options": {"include_usage": True}}
    assert json.loads(native(with_(**extra, **ours, **ways)).request) == {**BODY, **extra}
    kept = {"stream_options": ways["stream_options"]}  # for a caller that reconnects
    assert json.loads(chat(with_(**extra, **ways)).request) == {**BODY, **extra, **kept}


def test_a_chat_call_passes_metadata_through_which_openai_knows_too() -> None:
    assert json.loads(chat(with_(metadata={"a": 1})).request) == with_(metadata={"a": 1})


@pytest.mark.parametrize(
    ("field", "hint"),
    [
        ("lane", "must be sent as the header X-Tailrace-Lane"),
        ("on_stream_failures", "must be sent as the header X-Tailrace-On-Stream-Failure"),
        ("timeout_s", "belongs to POST /v1/jobs"),
    ],
)
def test_a_dialect_refuses_a_field_of_the_job_api_and_names_what_to_send(field: str, hint: str) -> None:
    for make in (chat, embeddings, lambda asked: response({**asked, "input": "x"})):
        with pytest.raises(InvalidRequest, match=f"^{field} {hint}") as caught:
            make({**BODY, "input": "x", field: "low"})
        assert caught.value.param == field


@pytest.mark.parametrize("make", [native, chat, turn], ids=["native", "chat", "turn"])
def test_a_parameter_out_of_range_is_refused_whoever_asks(make: Callable[[Mapping[str, Any]], JobSpec]) -> None:
    with pytest.raises(InvalidRequest, match=r"^temperature must be a number from 0 to 2\.$") as caught:
        make(with_(temperature=3))
    assert caught.value.param == "temperature"
    assert json.loads(make(with_(temperature=None)).request) == with_(temperature=None)


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": role, "content": "x"} for role in ("system", "developer", "user", "assistant", "tool", "function")],
        [{"role": "user", "content": [{"type": "text", "text": "x"}]}],
        [{"role": "assistant", "content": None, "tool_calls": []}],
        [{"role": "assistant", "tool_calls": []}],
        [{"role": "assistant", "content": None}],
        [{"role": "assistant", "content": []}],
        [{"role": "tool", "tool_call_id": "a", "content": None}],
        [{"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "x"}]}],
        [{"role": "function", "name": "f", "content": None}],
        [{"role": "user", "content": ""}],
    ],
)
def test_messages_of_every_kind_are_taken(messages: list[Any]) -> None:
    assert json.loads(native(with_(messages=messages)).request)["messages"] == messages


@pytest.mark.parametrize(
    ("fields", "param", "hint"),
    [
        ({"model": None}, "model", "name of a model"),
        ({"model": ""}, "model", "name of a model"),
        ({"model": 7}, "model", "name of a model"),
        ({"model": "x" * 256}, "model", "name of a model"),
        ({"messages": None}, "messages", "at least one message"),
        ({"messages": []}, "messages", "at least one message"),
        ({"messages": "Hello?"}, "messages", "at least one message"),
        ({"messages": {}}, "messages", "at least one message"),
        ({"messages": ["Hello?"]}, "messages[0]", "an object with a role"),
        ({"messages": [*MESSAGES, None]}, "messages[1]", "an object with a role"),
        ({"messages": [{"content": "x"}]}, "messages[0].role", "system, developer, user"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role", "system, developer, user"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "messages[0].role", "system, developer, user"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "a string or a list of parts"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content", "a string or a list of parts"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content", "a string or a list of parts"),
        ({"messages": [{"role": "assistant", "content": {}}]}, "messages[0].content", "a string or a list of parts"),
        ({"n": 0}, "n", "from 1 to 128"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage", "true or false"),
        ({"model": "a\x1b[31m"}, "model", "1 to 255 printable characters"),
        ({"model": "a\u202eb"}, "model", "1 to 255 printable characters"),
        ({"timeout": 5}, "timeout", "use timeout_s"),
        ({"lanes": "low"}, "lanes", "use lane"),
        ({"idempotency_key": "x"}, "idempotency_key", "header Idempotency-Key"),
        ({"kind": "images"}, "kind", "one of: chat, embeddings"),
        ({"kind": None}, "kind", "one of: chat"),
        ({"kind": ["chat"]}, "kind", "one of: chat"),
        ({"lane": "express"}, "lane", "one of: high, default, low"),
        ({"lane": None}, "lane", "one of: high, default, low"),
        ({"lane": ["low"]}, "lane", "one of: high, default, low"),
        ({"lane": 1}, "lane", "one of: high, default, low"),
        ({"timeout_s": 0}, "timeout_s", "at most 3600"),
        ({"timeout_s": -1}, "timeout_s", "at most 3600"),
        ({"timeout_s": 3601}, "timeout_s", "at most 3600"),
        ({"timeout_s": 10**400}, "timeout_s", "at most 3600"),
        ({"timeout_s": "5"}, "timeout_s", "at most 3600"),
        ({"timeout_s": True}, "timeout_s", "at most 3600"),
        ({"metadata": []}, "metadata", "at most 16 strings"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata", "at most 16 strings"),
        ({"metadata": {"a": 1}}, "metadata", "metadata.a must be a string"),
        ({"metadata": {"a": None}}, "metadata", "metadata.a must be a string"),
        ({"metadata": {"a": "x" * 513}}, "metadata", "at most 512 characters"),
        ({"metadata": {"x" * 65: "a"}}, "metadata", "name of at most 64"),
        ({"on_disconnect": "stop"}, "on_disconnect", "must be one of: continue, cancel"),
        ({"on_disconnect": None}, "on_disconnect", "must be one of: continue, cancel"),
        ({"on_disconnect": ["cancel"]}, "on_disconnect", "must be one of: continue, cancel"),
        ({"abandon_after_s": 0}, "abandon_after_s", "more than 0 and at most 604800"),
        ({"abandon_after_s": -1}, "abandon_after_s", "more than 0 and at most 604800"),
        ({"abandon_after_s": 604801}, "abandon_after_s", "more than 0 and at most 604800"),
        ({"abandon_after_s": "5"}, "abandon_after_s", "more than 0 and at most 604800"),
        ({"abandon_after_s": True}, "abandon_after_s", "more than 0 and at most 604800"),
        ({"webhook": {"url": "https://example.com"}}, "webhook", "not available in this version"),
        ({"after": []}, "after", "not available in this version"),
        ({"conversation": None}, "conversation", "not available in this version"),
        ({"on_stream_failure": "end"}, "on_stream_failure", "one of: continue, rollback, fail"),
    ],
)
def test_a_wrong_field_is_named_with_what_would_be_right(fields: dict[str, Any], param: str, hint: str) -> None:
    error = refusal(with_(**fields))
    assert error.param == param
    assert hint in str(error)
    assert (error.status, error.code) == (400, "invalid_request")


@pytest.mark.parametrize("lane", LANES)
def test_without_a_plan_a_key_may_use_every_lane(lane: str) -> None:
    assert native(with_(lane=lane)).lane == lane
    assert chat(BODY, lane=lane).lane == lane


@pytest.mark.parametrize(
    ("plan", "lane"),
    [((), "default"), (("low", "default"), "default"), (("low",), "low"), (("low", "high"), "low")],
)
def test_who_names_no_lane_gets_the_default_one_or_the_first_of_his_plan(plan: tuple[str, ...], lane: str) -> None:
    caller = Caller("alice", lanes=plan)
    assert native(BODY, caller=caller).lane == lane
    assert chat(BODY, caller=caller).lane == lane


def test_a_lane_that_the_plan_does_not_have_is_forbidden_and_those_that_it_has_are_named() -> None:
    caller = Caller("alice", lanes=("default", "low"))
    with pytest.raises(Forbidden, match=r"may not use the lane high; lane must be one of: default, low\.") as caught:
        native(with_(lane="high"), caller=caller)
    assert (caught.value.param, caught.value.status) == ("lane", 403)
    with pytest.raises(Forbidden, match="X-Tailrace-Lane must be one of: default, low") as caught:
        chat(BODY, caller=caller, lane="high")
    assert caught.value.param == "X-Tailrace-Lane"


@pytest.mark.parametrize("lane", ["", "express", "default,low"])
def test_a_lane_that_is_nobodys_is_a_wrong_header(lane: str) -> None:
    with pytest.raises(InvalidRequest, match="X-Tailrace-Lane must be one of: high, default, low") as caught:
        chat(BODY, lane=lane)
    assert caught.value.param == "X-Tailrace-Lane"


@pytest.mark.parametrize("missing", ["model", "messages"])
def test_a_missing_field_is_named(missing: str) -> None:
    assert refusal({name: value for name, value in BODY.items() if name != missing}).param == missing


@pytest.mark.parametrize("timeout_s", [0.5, 1, 3600])
def test_a_time_out_is_any_number_up_to_the_longest(timeout_s: float) -> None:
    assert native(with_(timeout_s=timeout_s)).timeout_s == timeout_s


def test_metadata_may_be_as_large_as_it_says() -> None:
    metadata = {"x" * 62 + f"{n:02}": "y" * 512 for n in range(16)}
    assert native(with_(metadata=metadata)).metadata == metadata


def test_where_models_are_named_no_other_is_taken() -> None:
    strict = specs(Limits(**{**vars_of(LIMITS), "models": ("m", "vendor/m-2")}))
    assert strict.native(with_(model="vendor/m-2"), ALICE, None, JOB).model == "vendor/m-2"
    with pytest.raises(ModelNotFound, match="the models are: m, vendor/m-2") as caught:
        strict.native(with_(model="other"), ALICE, None, JOB)
    assert (caught.value.param, caught.value.status) == ("model", 404)


def vars_of(limits: Limits) -> dict[str, Any]:
    return {name: getattr(limits, name) for name in Limits.__slots__}


@pytest.mark.parametrize(
    ("header", "key"),
    [("abc", "abc"), ('"abc"', "abc"), ("a b", "a b"), ('"', '"'), ("x" * 255, "x" * 255), ('a"b', 'a"b')],
)
def test_an_idempotency_key_means_the_same_with_and_without_quotes(header: str, key: str) -> None:
    assert native(BODY, header).idempotency_key == key


@pytest.mark.parametrize("header", ["", '""', "x" * 256, "naïve", "a\tb", "a\x00b"])
def test_an_idempotency_key_that_nobody_can_repeat_is_refused(header: str) -> None:
    with pytest.raises(InvalidRequest, match="1 to 255 printable ASCII") as caught:
        native(BODY, header)
    assert caught.value.param == "Idempotency-Key"


def test_bodies_that_mean_the_same_have_the_same_fingerprint() -> None:
    fields = [("model", "m"), ("messages", [{"role": "user", "content": "x"}]), ("metadata", {"a": "1", "b": "2"})]
    fields_reversed = [
        ("metadata", {"b": "2", "a": "1"}),
        ("messages", [{"content": "x", "role": "user"}]),
        ("model", "m"),
    ]
    assert native(dict(fields), "k").fingerprint == native(dict(fields_reversed), "k").fingerprint


def test_a_body_without_a_key_is_not_encoded_for_a_fingerprint() -> None:
    assert native(BODY).fingerprint == ""


def test_bodies_that_mean_different_things_have_different_fingerprints() -> None:
    bodies: list[dict[str, Any]] = [
        BODY,
        with_(model="m2"),
        with_(messages=[*MESSAGES, *MESSAGES]),
        with_(timeout_s=5),
        with_(metadata={"a": "b"}),
        with_(temperature=1),
        with_(temperature=1.5),
        with_(stream=True),
    ]
    fingerprints = [native(body, "k").fingerprint for body in bodies]
    assert all(one != other for one, other in itertools.combinations(fingerprints, 2))


def test_the_same_body_at_another_address_has_another_fingerprint() -> None:
    assert native(BODY, "k").fingerprint != chat(BODY, "k").fingerprint


@pytest.mark.parametrize("make", [partial(chat, key="k"), response], ids=["chat", "response"])
def test_the_same_body_in_another_lane_has_another_fingerprint(make: Callable[..., JobSpec]) -> None:
    assert len({make(BODY, lane=lane).fingerprint for lane in (None, "high", "low")}) == 3


# Embeddings.


def embeddings(body: Mapping[str, Any], key: str | None = None, lane: str | None = None) -> JobSpec:
    return specs().admit(JobRequest("embeddings", body, body, RequestOptions(lane), key, kind=EMBEDDINGS), ALICE, JOB)


def test_a_call_to_embed_is_a_job_whose_inputs_are_a_list() -> None:
    spec = embeddings({"model": "m", "input": "Hello", "user": "me", "dimensions": None, "encoding_format": "base64"})

    assert (spec.kind, spec.model, spec.viewer) == ("embeddings", "m", GATEWAY)
    assert json.loads(spec.request) == {"model": "m", "input": ["Hello"], "user": "me"}


def test_how_vectors_are_written_is_part_of_what_a_key_stands_for() -> None:
    body = {"model": "m", "input": "Hello"}

    assert embeddings(body, "k").fingerprint != embeddings({**body, "encoding_format": "base64"}, "k").fingerprint
    assert embeddings(body, "k").fingerprint == embeddings({"input": "Hello", "model": "m"}, "k").fingerprint
    assert embeddings(body, "k").fingerprint != native({**body, "kind": "embeddings"}, "k").fingerprint


def test_a_native_job_embeds_more_than_a_call_may() -> None:
    body = {"model": "m", "input": ["a"] * 2049}

    spec = native({**body, "kind": "embeddings", "lane": "low"})

    assert (spec.kind, spec.lane, spec.viewer) == ("embeddings", "low", None)
    assert json.loads(spec.request) == body
    with pytest.raises(InvalidRequest, match="at most 2048 inputs"):
        embeddings(body)
    with pytest.raises(InvalidRequest, match="at most 100000 inputs"):
        native({"kind": "embeddings", "model": "m", "input": ["a"] * 100_001})


@pytest.mark.parametrize(
    ("fields", "param", "hint"),
    [
        ({"input": 7}, "input", "must be a string"),
        ({"dimensions": 0}, "dimensions", "from 1 to 65536"),
        ({"dimensions": True}, "dimensions", "from 1 to 65536"),
        ({"dimensions": "8"}, "dimensions", "from 1 to 65536"),
        ({"dimensions": 65_537}, "dimensions", "from 1 to 65536"),
        ({"encoding_format": "float"}, "encoding_format", "when the result is read"),
        ({"tailrace": {}}, "tailrace", "own name"),
        ({"model": None}, "model", "name of a model"),
    ],
)
def test_a_wrong_field_of_a_job_that_embeds_is_named(fields: dict[str, Any], param: str, hint: str) -> None:
    error = refusal({"kind": "embeddings", "model": "m", "input": "Hello", **fields})

    assert error.param == param
    assert hint in str(error)


def test_a_model_that_is_not_served_embeds_nothing() -> None:
    served = specs(replace(LIMITS, models=("a",)))

    body = {"model": "b", "input": "Hello"}
    call = JobRequest("embeddings", body, body, RequestOptions(), kind=EMBEDDINGS)

    with pytest.raises(ModelNotFound, match="the models are: a"):
        served.admit(call, ALICE, JOB)


# Once more.


def dead_letter(**changes: Any) -> Job:
    """Return a job that has failed."""
    record = {
        "v": "1",
        "kind": "chat",
        "tenant": "bob",
        "lane": "default",
        "model": "m",
        "status": "failed",
        "epoch": "1",
        "seq": "2",
        "attempts": "1",
        "created": "1000",
        "deadline": "21500",
        "metadata": '{"colour":"blue"}',
        "on_stream_failure": "rollback",
        **changes,
    }
    return job_from_record(JOB, {name.encode(): value.encode() for name, value in record.items()})


def test_a_dead_letter_asks_again_for_its_tenant_whoever_wants_it() -> None:
    spec = specs().again(dead_letter(), BODY, {"kept": 1}, NEW)

    assert (spec.tenant, spec.lane, spec.model, spec.timeout_s) == ("bob", "default", "m", 20.5)
    assert (dict(spec.metadata), spec.on_stream_failure) == ({"colour": "blue"}, OnStreamFailure.ROLLBACK)
    assert json.loads(spec.request) == {**BODY, "tailrace": {"kept": 1}}
    assert (spec.requeued_from, spec.abandonment, spec.viewer) == (JOB, Abandonment(), None)
    assert spec.id == NEW
    assert "tailrace" not in json.loads(specs().again(dead_letter(), BODY, {}, JOB).request)


def test_a_dead_letter_that_was_let_in_before_is_asked_again_whatever_its_fields_say() -> None:
    request = with_(temperature=3, timeout_ms=5)

    assert json.loads(specs().again(dead_letter(), request, {}, JOB).request) == request


def test_no_caller_can_take_the_key_of_a_dead_letter() -> None:
    key = specs().again(dead_letter(), BODY, {}, JOB).idempotency_key

    assert key is not None and JOB in key
    with pytest.raises(InvalidRequest):
        native(BODY, key)


def test_a_lane_that_is_not_there_any_more_is_named() -> None:
    with pytest.raises(InvalidRequest, match="The job's lane gone does not exist") as refused:
        specs().again(dead_letter(lane="gone"), BODY, {}, JOB)

    assert refused.value.param == "lane"


# Requests with `store: false`.


@pytest.mark.parametrize(("store", "keep_s"), [({}, None), ({"store": True}, None), ({"store": False}, 20.0)])
def test_only_what_is_not_to_be_stored_is_kept_briefly(store: dict[str, bool], keep_s: float | None) -> None:
    answered = respond(store, None, options=RequestOptions(), kept=store)

    assert [answered.keep_s, native({**BODY, **store}).keep_s, chat({**BODY, **store}).keep_s] == [keep_s] * 3
