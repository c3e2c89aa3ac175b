"""A field that Tailrace added to a request fails no call: it is left out by a setting, or after one refusal.

Each test has a provider of its own, since a provider's refusal of a field is remembered.
"""

import base64
import struct
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import pytest_asyncio

from tests.cases.dialects import CHAT, CHAT_STREAM, DIALECTS, NATIVE, Dialect
from tests.cases.everywhere import in_every_dialect
from tests.cases.stage import Stage, running_stage
from tests.support.folded import Answer
from tests.support.raw_upstream import Body, Play, Raw, as_json, chunk, completion, events, said

pytestmark = pytest.mark.asyncio(loop_scope="module")

HELLO = Answer("Hello")


def refusal(error: object, status: int = 400) -> Raw:
    """Return a refusal in OpenAI's form."""
    return as_json({"error": error}, status)


def error_of(message: str, param: str | None, code: str | None = "unsupported_value") -> dict[str, Any]:
    """Return an error of OpenAI's."""
    return {"message": message, "type": "invalid_request_error", "param": param, "code": code}


def answer_to(body: Body) -> Raw:
    """Return the answer in the form that was asked for."""
    if body.get("stream"):
        return said({"content": "Hello"})
    return as_json(completion({"role": "assistant", "content": "Hello"}))


STREAM = refusal(error_of("Your organization must be verified to stream this model.", "stream"))
EXTRA = {"type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}
REFUSALS: dict[str, tuple[str, Raw]] = {
    "openai-stream": ("stream", STREAM),
    "fastapi-options": ("stream_options", as_json({"detail": [EXTRA]}, 422)),
    "fastapi-options-inside": (
        "stream_options",
        as_json({"detail": [{**EXTRA, "loc": ["body", "stream_options", "include_usage"]}]}, 422),
    ),
    "mistral-options": (
        "stream_options",
        as_json({"object": "error", "message": {"detail": [EXTRA]}, "type": "invalid_request_error"}, 422),
    ),
    "openai-options": (
        "stream_options",
        refusal(error_of("Unrecognized request argument supplied: stream_options", None, None)),
    ),
    "databricks-options": (
        "stream_options",
        as_json({"error_code": "BAD_REQUEST", "message": "stream_options: Extra inputs are not permitted"}, 400),
    ),
}


def refusing(name: str, answer: Raw) -> Play:
    """Return an upstream that refuses a field."""
    return lambda body: answer if body.get(name) else answer_to(body)


SETTINGS: dict[str, dict[str, Any]] = {
    **{f"no-streaming-{each.name}": {"streaming": False} for each in DIALECTS},
    **{f"no-usage-{each.name}": {"stream_usage": False} for each in DIALECTS},
    "no-streaming": {"streaming": False},
    "no-usage": {"stream_usage": False},
    "float-vectors": {"embedding_encoding": "float"},
    "max-tokens": {"max_tokens_field": "max_tokens"},
    "max-completion-tokens": {"max_tokens_field": "max_completion_tokens"},
    "no-developer": {"developer_role": "system"},
    "closed": {"pass_unknown": False},
}
FRESH = [f"{name}-{each.name}" for name in REFUSALS for each in DIALECTS]
EMBEDDING = ["vectors-openai", "vectors-fastapi", "vectors-words", "blamed", "nothing-helps"]
CALLERS = [
    "callers-stream-options",
    "callers-call-fields",
    "callers-thoughts",
    "callers-reasoning_content",
    "callers-extra_content",
    "callers-options",
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """Start a system with settings for each provider."""
    providers = SETTINGS | {name: {} for name in (*FRESH, *EMBEDDING, *CALLERS)}
    async with running_stage(redis_url, tmp_path_factory.mktemp("data"), **providers) as running:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TAILRACE_URL", running.url)
            patch.setenv("TAILRACE_API_KEY", "sk-alice")
            yield running


def played(stage: Stage, model: str, play: Play) -> list[dict[str, Any]]:
    """Play this to a provider and its model of the same name; the bodies of its requests."""
    stage.upstream.play(model, play, provider=model)
    return stage.upstream.asked(model, model)


# --- One retry without the blamed field


@pytest.mark.parametrize("name", REFUSALS)
@in_every_dialect
async def test_a_refused_field_is_left_out_once_and_from_then_on(stage: Stage, dialect: Dialect, name: str) -> None:
    field, answer = REFUSALS[name]
    model = f"{name}-{dialect.name}"
    asked = played(stage, model, refusing(field, answer))

    first = await dialect.ask(stage, model)
    second = await dialect.ask(stage, model)

    dialect.check(first, HELLO)
    dialect.check(second, HELLO)
    assert [bool(body.get(field)) for body in asked] == [True, False, False]


async def test_a_field_of_the_caller_that_is_refused_is_the_callers_error(stage: Stage) -> None:
    asked = played(
        stage, "blamed", refusal(error_of("temperature does not support 2.0 with this model.", "temperature"))
    )

    got = await CHAT.ask(stage, "blamed", temperature=2.0)

    CHAT.check_trouble(got, "invalid_request", "temperature does not support 2.0")
    assert len(asked) == 1


async def test_there_is_one_retry_and_no_more(stage: Stage) -> None:
    asked = played(stage, "nothing-helps", refusal(error_of("This model does not support streaming.", "stream")))

    got = await CHAT.ask(stage, "nothing-helps")

    CHAT.check_trouble(got, "invalid_request", "does not support streaming")
    assert len(asked) == 2


@pytest.mark.parametrize("name", ["reasoning_content", "extra_content"])
async def test_a_callers_field_with_the_name_of_one_of_ours_is_refused_once(stage: Stage, name: str) -> None:
    asked = played(stage, f"callers-{name}", refusal(error_of(f"Unknown parameter: '{name}'.", name)))

    got = await CHAT.ask(stage, f"callers-{name}", **{name: "x"})

    CHAT.check_trouble(got, "invalid_request", name)
    assert len(asked) == 1


async def test_a_callers_option_of_embeddings_is_refused_once(stage: Stage) -> None:
    asked = played(stage, "callers-options", refusal(error_of("stream_options: Extra inputs are not permitted", None)))

    reply = await stage.client.post("/v1/embeddings", {"model": "callers-options", "input": "a", "stream_options": {}})

    assert reply.status == 400
    assert len(asked) == 1


def call_with(**fields: object) -> list[dict[str, Any]]:
    """Return a conversation in which a call has these fields."""
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}, **fields}
    return [
        {"role": "user", "content": "Hello?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
    ]


async def test_a_callers_own_option_of_the_stream_costs_others_no_usage(stage: Stage) -> None:
    refused = refusal(error_of("Unknown parameter: 'stream_options.foo'.", "stream_options.foo", "unknown_parameter"))
    asked = played(
        stage,
        "callers-stream-options",
        lambda body: refused if "foo" in body.get("stream_options", {}) else answer_to(body),
    )

    await CHAT_STREAM.ask(stage, "callers-stream-options", stream_options={"foo": 1})
    await CHAT.ask(stage, "callers-stream-options")

    assert asked[-1]["stream_options"] == {"include_usage": True}


async def test_a_callers_own_field_of_a_call_costs_others_no_state(stage: Stage) -> None:
    refused = refusal(error_of("Unknown name \"foo\" at 'messages[1].tool_calls[0]': Cannot find field.", None, None))
    asked = played(
        stage,
        "callers-call-fields",
        lambda body: refused if "foo" in body["messages"][1]["tool_calls"][0] else answer_to(body),
    )

    first = await CHAT.ask(stage, "callers-call-fields", messages=call_with(foo=1))
    await CHAT.ask(stage, "callers-call-fields", messages=call_with(extra_content={"signature": "s"}))

    CHAT.check(first, HELLO)
    assert asked[-1]["messages"][1]["tool_calls"][0]["extra_content"] == {"signature": "s"}


async def test_thoughts_in_a_users_message_are_the_callers_error(stage: Stage) -> None:
    asked = played(stage, "callers-thoughts", refusal(error_of("Unknown field reasoning_content.", None, None)))

    got = await CHAT.ask(
        stage, "callers-thoughts", messages=[{"role": "user", "content": "Hello?", "reasoning_content": "Hm."}]
    )

    CHAT.check_trouble(got, "invalid_request", "reasoning_content")
    assert len(asked) == 1


# --- Settings


@in_every_dialect
async def test_a_provider_that_does_not_stream_is_asked_for_the_whole(stage: Stage, dialect: Dialect) -> None:
    model = f"no-streaming-{dialect.name}"
    asked = played(stage, model, refusing("stream", STREAM))

    got = await dialect.ask(stage, model)

    dialect.check(got, HELLO)
    assert [body.keys() & {"stream", "stream_options"} for body in asked] in ([set()], [{"stream"}])
    assert not asked[0].get("stream")


async def test_an_answer_that_does_not_stream_is_one_delta(stage: Stage) -> None:
    message = {"role": "assistant", "content": "Hello", "reasoning_content": "Hm."}
    played(stage, "no-streaming", as_json(completion(message)))

    got = await NATIVE.ask(stage, "no-streaming")

    assert len(got.raw.deltas) <= 2
    NATIVE.check(got, Answer("Hello", "Hm."))


async def test_audio_that_can_not_be_streamed_comes_whole(stage: Stage) -> None:
    audio = {"id": "audio_1", "data": "UklGRg==", "expires_at": 1, "transcript": "Hello"}
    played(stage, "no-streaming", as_json(completion({"role": "assistant", "content": None, "audio": audio})))
    wanted = {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}

    got = await CHAT.ask(stage, "no-streaming", **wanted)

    assert got.raw["choices"][0]["message"]["audio"] == audio


@in_every_dialect
async def test_a_provider_without_the_usage_option_is_not_asked_for_usage(stage: Stage, dialect: Dialect) -> None:
    model = f"no-usage-{dialect.name}"
    asked = played(stage, model, refusing("stream_options", as_json({"detail": [EXTRA]}, 422)))

    got = await dialect.ask(stage, model)

    dialect.check(got, HELLO)
    assert [(body["stream"], "stream_options" in body) for body in asked] == [(True, False)]


@pytest.mark.parametrize(
    ("model", "given", "sent"),
    [
        ("max-tokens", "max_completion_tokens", "max_tokens"),
        ("max-tokens", "max_tokens", "max_tokens"),
        ("max-completion-tokens", "max_tokens", "max_completion_tokens"),
        ("max-completion-tokens", "max_completion_tokens", "max_completion_tokens"),
    ],
)
async def test_the_limit_of_tokens_has_the_providers_name(stage: Stage, model: str, given: str, sent: str) -> None:
    asked = played(stage, model, answer_to)

    got = await CHAT.ask(stage, model, **{given: 99})

    CHAT.check(got, HELLO)
    assert {name: value for name, value in asked[0].items() if "tokens" in name} == {sent: 99}


async def test_a_developers_message_is_a_systems(stage: Stage) -> None:
    asked = played(stage, "no-developer", answer_to)
    messages = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hello?"}]

    got = await CHAT.ask(stage, "no-developer", messages=messages)

    CHAT.check(got, HELLO)
    assert [message["role"] for message in asked[0]["messages"]] == ["system", "user"]


async def test_a_closed_provider_gets_no_unknown_fields(stage: Stage) -> None:
    asked = played(stage, "closed", answer_to)

    got = await CHAT_STREAM.ask(stage, "closed", temperature=0.5, top_k=40, guided_json={})

    CHAT_STREAM.check(got, HELLO)
    assert asked[0].keys() == {"model", "messages", "stream", "stream_options", "temperature"}


# --- Vectors

FLOATS = [0.25, -0.5, 1.0]
BASE64 = base64.b64encode(struct.pack("<3f", *FLOATS)).decode()


def vectors(body: Body) -> Raw:
    """Return an embedding of each input, as floats."""
    data = [{"object": "embedding", "index": n, "embedding": FLOATS} for n, _ in enumerate(body["input"])]
    return as_json({"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 1, "total_tokens": 1}})


def only_floats(answer: Raw) -> Play:
    """Return an upstream that knows floats only."""
    return lambda body: answer if body.get("encoding_format", "float") != "float" else vectors(body)


async def _embed(stage: Stage, model: str, encoding: str) -> list[Any]:
    body = {"model": model, "input": ["a", "b"], "encoding_format": encoding}
    reply = await stage.client.post("/v1/embeddings", body)
    assert reply.status == 200, reply.body
    return [each["embedding"] for each in reply.json()["data"]]


VECTOR_REFUSALS: Mapping[str, Raw] = {
    "vectors-openai": refusal(error_of("encoding_format must be float", "encoding_format")),
    "vectors-fastapi": as_json(
        {"detail": [{"type": "literal_error", "loc": ["body", "encoding_format"], "msg": "Input should be 'float'"}]},
        422,
    ),
    "vectors-words": as_json({"error": {"message": "encoding_format: must be float", "code": 400}}, 400),
}


@pytest.mark.parametrize("model", VECTOR_REFUSALS)
async def test_an_encoding_that_is_refused_is_not_asked_for_again(stage: Stage, model: str) -> None:
    asked = played(stage, model, only_floats(VECTOR_REFUSALS[model]))

    assert await _embed(stage, model, "float") == [FLOATS, FLOATS]
    assert await _embed(stage, model, "base64") == [BASE64, BASE64]

    assert [body.get("encoding_format", "float") for body in asked] == ["base64", "float", "float"]


@pytest.mark.parametrize(("encoding", "vector"), [("float", FLOATS), ("base64", BASE64)])
async def test_a_provider_of_floats_is_asked_for_floats(stage: Stage, encoding: str, vector: object) -> None:
    asked = played(stage, "float-vectors", only_floats(refusal(error_of("must be float", "encoding_format"))))

    assert await _embed(stage, "float-vectors", encoding) == [vector, vector]
    assert len(asked) == 1


async def test_usage_that_was_not_given_is_estimated(stage: Stage) -> None:
    played(stage, "no-usage", events(chunk({"content": "Hello"}), chunk({}, "stop")))

    got = await NATIVE.ask(stage, "no-usage")

    assert got.raw.end["usage"]["source"] == "estimated"
