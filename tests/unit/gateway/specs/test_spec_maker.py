"""Test the maker of specs: a decoded body in, a spec or an error that names the field and the valid value out."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from gateway.specs.job_request import JobRequest
from gateway.specs.kinds import ADMITTED_KINDS, KindAdmission
from gateway.specs.limits import Limits
from gateway.specs.request_options import RequestOptions
from gateway.specs.spec_maker import SpecMaker
from shared.model.errors import InvalidRequest, ModelNotFound, RequestError
from shared.model.jobs import VIEWER_LEASE_S, Abandonment, JobSpec
from shared.model.kinds import EMBEDDINGS, KindSpec, ResultForm
from shared.model.routes import OnStreamFailure
from tests.unit.gateway.specs.specs import (
    ALICE,
    BODY,
    CANCEL,
    CONTINUE,
    GATEWAY,
    JOB,
    LIMITS,
    MESSAGES,
    chat,
    embeddings,
    native,
    respond,
    response,
    specs,
    with_,
)


def turn(body: Mapping[str, Any]) -> JobSpec:
    return turn_with(body, RequestOptions())


def turn_with(body: Mapping[str, Any], options: RequestOptions) -> JobSpec:
    call = JobRequest("ai_sdk.chat", body, {}, options, on_disconnect=CONTINUE, continued=True)
    return specs().admit(call, ALICE, JOB)


def refusal(body: Mapping[str, Any]) -> RequestError:
    with pytest.raises(InvalidRequest) as caught:
        native(body)
    return caught.value


def test_a_native_job_has_the_defaults_of_the_settings_and_continues_without_a_reader() -> None:
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
def test_the_policy_without_viewers_is_read_from_the_request(fields: dict[str, Any], expected: Abandonment) -> None:
    assert native(with_(**fields)).abandonment == expected


def test_a_chat_call_is_abandonable_and_has_its_caller_as_first_viewer() -> None:
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
def test_the_error_for_a_wrong_header_names_it_and_its_right_form(
    headers: dict[str, Any], param: str, hint: str
) -> None:
    with pytest.raises(InvalidRequest, match=hint) as caught:
        chat(BODY, options=RequestOptions(**headers))
    assert caught.value.param == param


def test_a_response_is_a_chat_with_its_own_options_kept_beside_it() -> None:
    spec = response({"metadata": {"a": "b"}}, lane="low")
    assert json.loads(spec.request) == {**BODY, "tailrace": {"store": True}}
    assert (spec.kind, spec.lane, spec.metadata, spec.idempotency_key) == ("chat", "low", {"a": "b"}, "key")
    assert spec.abandonment == Abandonment(CANCEL, VIEWER_LEASE_S, 5)


def test_a_response_in_the_background_continues_without_a_reader() -> None:
    assert response({}, background=True).abandonment == Abandonment()
    assert response({}, background=True).viewer == GATEWAY
    assert response({}, background=True, streaming=False).viewer is None


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
def test_only_a_stream_for_its_caller_alone_has_an_append_only_reader(
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
def test_the_field_of_kept_options_is_refused_in_a_request(make: Callable[[Mapping[str, Any]], JobSpec]) -> None:
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


def test_a_chat_call_passes_metadata_through_to_the_upstream() -> None:
    assert json.loads(chat(with_(metadata={"a": 1})).request) == with_(metadata={"a": 1})


@pytest.mark.parametrize(
    ("field", "hint"),
    [
        ("lane", "must be sent as the header X-Tailrace-Lane"),
        ("on_stream_failures", "must be sent as the header X-Tailrace-On-Stream-Failure"),
        ("timeout_s", "belongs to POST /v1/jobs"),
    ],
)
def test_a_dialect_refuses_a_field_of_the_job_api_and_names_its_replacement(field: str, hint: str) -> None:
    for make in (chat, embeddings, lambda asked: response({**asked, "input": "x"})):
        with pytest.raises(InvalidRequest, match=f"^{field} {hint}") as caught:
            make({**BODY, "input": "x", field: "low"})
        assert caught.value.param == field


@pytest.mark.parametrize("make", [native, chat, turn], ids=["native", "chat", "turn"])
def test_a_parameter_out_of_range_is_refused_in_each_dialect(make: Callable[[Mapping[str, Any]], JobSpec]) -> None:
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
        ({"after": []}, "after", "must be an object of 1 to 256 names"),
        ({"conversation": None}, "conversation", "not available in this version"),
        ({"on_stream_failure": "end"}, "on_stream_failure", "one of: continue, rollback, fail"),
    ],
)
def test_the_error_for_a_wrong_field_names_it_and_its_right_form(fields: dict[str, Any], param: str, hint: str) -> None:
    error = refusal(with_(**fields))
    assert error.param == param
    assert hint in str(error)
    assert (error.status, error.code) == (400, "invalid_request")


@pytest.mark.parametrize("missing", ["model", "messages"])
def test_a_missing_field_is_named(missing: str) -> None:
    assert refusal({name: value for name, value in BODY.items() if name != missing}).param == missing


@pytest.mark.parametrize("timeout_s", [0.5, 1, 3600])
def test_a_time_out_is_any_number_up_to_the_longest(timeout_s: float) -> None:
    assert native(with_(timeout_s=timeout_s)).timeout_s == timeout_s


def test_metadata_may_be_as_large_as_it_says() -> None:
    metadata = {"x" * 62 + f"{n:02}": "y" * 512 for n in range(16)}
    assert native(with_(metadata=metadata)).metadata == metadata


def test_a_model_outside_the_configured_list_is_refused() -> None:
    strict = specs(Limits(**{**vars_of(LIMITS), "models": ("m", "vendor/m-2")}))
    assert strict.native(with_(model="vendor/m-2"), ALICE, None, JOB).model == "vendor/m-2"
    with pytest.raises(ModelNotFound, match="the models are: m, vendor/m-2") as caught:
        strict.native(with_(model="other"), ALICE, None, JOB)
    assert (caught.value.param, caught.value.status) == ("model", 404)


def vars_of(limits: Limits) -> dict[str, Any]:
    return {name: getattr(limits, name) for name in Limits.__slots__}


def test_a_call_to_embed_is_a_job_whose_inputs_are_a_list() -> None:
    spec = embeddings({"model": "m", "input": "Hello", "user": "me", "dimensions": None, "encoding_format": "base64"})

    assert (spec.kind, spec.model, spec.viewer) == ("embeddings", "m", GATEWAY)
    assert json.loads(spec.request) == {"model": "m", "input": ["Hello"], "user": "me"}


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


@pytest.mark.parametrize(("store", "keep_s"), [({}, None), ({"store": True}, None), ({"store": False}, 20.0)])
def test_only_a_response_that_is_not_stored_is_kept_briefly(store: dict[str, bool], keep_s: float | None) -> None:
    answered = respond(store, None, options=RequestOptions(), kept=store)

    assert [answered.keep_s, native({**BODY, **store}).keep_s, chat({**BODY, **store}).keep_s] == [keep_s] * 3


def read_words(_: Mapping[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    """Read the input of a kind without a provider: any."""
    return request


def test_any_name_is_allowed_in_the_input_of_a_kind_without_a_provider() -> None:
    alone = KindSpec("alone", ResultForm.VALUE, streams_text=False, calls_provider=False)
    maker = SpecMaker(LIMITS, GATEWAY, ADMITTED_KINDS.adding(KindAdmission(alone, read_words)))
    call = JobRequest("tasks.alone", {"lane": 7}, {"lane": 7}, RequestOptions(), kind="alone")

    spec = maker.admit(call, ALICE, JOB)
    assert (spec.model, json.loads(spec.request)) == ("", {"lane": 7})
