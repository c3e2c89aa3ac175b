"""Test the field of Tailrace's own that a refusal blames, and the memory of it."""

import pytest

from shared.model import bounds
from worker.upstream.wire.refusals import refusal_of
from worker.upstream.wire.transport_fields import Blame, LeftOut, TransportField, blamed

STREAM, OPTIONS, ENCODING = TransportField.STREAM, TransportField.STREAM_OPTIONS, TransportField.ENCODING_FORMAT
CHAT = {"model", "messages", "stream", "stream_options"}
EMBEDDINGS = {"model", "input", "encoding_format"}
VERIFIED = "Your organization must be verified to stream this model. Please go to: https://platform.openai.com/settings"
EXTRA = "Extra inputs are not permitted"


def error(message: str, **fields: object) -> dict[str, object]:
    """Build OpenAI's error object."""
    return {"error": {"message": message, "type": "invalid_request_error", **fields}}


def extra(*place: object) -> dict[str, object]:
    """Build FastAPI's error object."""
    return {"detail": [{"type": "extra_forbidden", "loc": [*place], "msg": EXTRA}]}


BLAMED: list[tuple[object, set[str], TransportField]] = [
    (error(VERIFIED, param="stream", code="unsupported_value"), CHAT, STREAM),
    (error(VERIFIED), CHAT, STREAM),
    (error("Streaming is not supported for this model."), CHAT, STREAM),
    (error("This model does not support streaming"), CHAT, STREAM),
    (error("`stream` is not supported with this model."), CHAT, STREAM),
    (error("stream must be false"), CHAT, STREAM),
    (extra("body", "stream_options"), CHAT, OPTIONS),
    (extra("body", "stream_options", "include_usage"), CHAT, OPTIONS),
    ({"message": extra("stream_options"), "object": "error"}, CHAT, OPTIONS),
    (error("Unrecognized request argument supplied: stream_options"), CHAT, OPTIONS),
    ([error('Unknown name "stream_options": Cannot find field.', code=400)], CHAT, OPTIONS),
    (error("No.", param="stream_options.include_usage"), CHAT, OPTIONS),
    (error("encoding_format must be float"), EMBEDDINGS, ENCODING),
    (error("base64 is not supported"), EMBEDDINGS, ENCODING),
    (error("No.", param="encoding_format"), EMBEDDINGS, ENCODING),
]


@pytest.mark.parametrize(("about", "sent", "field"), BLAMED)
@pytest.mark.parametrize("status", [400, 422, 500])
def test_a_refused_field_is_found(about: object, sent: set[str], field: TransportField, status: int) -> None:
    assert blamed(refusal_of(about, status), sent) == Blame(field)


@pytest.mark.parametrize(("about", "sent", "field"), BLAMED)
def test_a_field_that_was_not_sent_is_not_to_blame(about: object, sent: set[str], field: TransportField) -> None:
    assert blamed(refusal_of(about, 400), sent - {field}) is None


@pytest.mark.parametrize(
    "about",
    [
        error("Bad."),
        error("No.", param="temperature"),
        error("temperature must not be used with stream_options", param="temperature"),
        error("The upstream stream ended.", param=None),
        error("Unknown name top_k"),
        extra("body", "top_k"),
        {},
        "slow down",
    ],
)
def test_a_refusal_of_another_field_blames_no_transport_field(about: object) -> None:
    assert blamed(refusal_of(about, 400), CHAT | EMBEDDINGS) is None


@pytest.mark.parametrize(
    ("about", "status"),
    [
        (error("Too many requests; streaming is not supported while busy."), 429),
        (error("Streaming is not supported while busy."), 503),
        (error("This model's maximum context length is 5; stream_options"), 400),
    ],
)
def test_a_refusal_with_another_cause_blames_no_transport_field(about: object, status: int) -> None:
    assert blamed(refusal_of(about, status), CHAT) is None


def test_a_field_that_is_only_wrong_in_a_stream_is_not_blamed_for_good() -> None:
    message = (
        "Unsupported value: 'audio.format' does not support 'wav' when stream=true. Supported values are: 'pcm16'."
    )
    refusal = refusal_of(error(message, param="audio.format"), 400)

    assert blamed(refusal, CHAT) == Blame(STREAM, lasting=False)
    assert blamed(refusal, CHAT - {"stream"}) is None


THOUGHTS, CALL_STATE = TransportField.THOUGHTS, TransportField.CALL_STATE
STATE = {"reasoning_content", "extra_content", "thought_signature"}
GROQ = (
    "'messages.1' : for 'role:assistant' the following must be satisfied"
    "[('messages.1' : property 'reasoning_content' is unsupported)]"
)


@pytest.mark.parametrize(
    ("about", "field"),
    [
        (error(GROQ), THOUGHTS),
        (extra("body", "messages", 1, "assistant", "reasoning_content"), THOUGHTS),
        ({"message": extra("body", "messages", 1, "reasoning_content"), "object": "error"}, THOUGHTS),
        ([error("Unknown name \"reasoning_content\" at 'messages[1]': Cannot find field.", code=400)], THOUGHTS),
        (error("Unknown parameter: 'messages[1].reasoning_content'.", param="messages[1].reasoning_content"), THOUGHTS),
        (error("reasoning_content should not be included in the input messages."), THOUGHTS),
        (error("Additional properties are not allowed ('extra_content' was unexpected)"), CALL_STATE),
    ],
)
def test_refused_state_of_an_earlier_answer_is_found(about: object, field: TransportField) -> None:
    refusal = refusal_of(about, 400)

    assert blamed(refusal, CHAT, STATE) == Blame(field)
    assert blamed(refusal, CHAT, ()) is None


def test_a_refused_name_that_a_caller_may_have_invented_is_not_remembered() -> None:
    refusal = refusal_of(extra("body", "messages", 1, "tool_calls", 0, "thought_signature"), 400)

    assert blamed(refusal, CHAT, STATE) == Blame(CALL_STATE, lasting=False)


@pytest.mark.parametrize(
    "about",
    [
        error("The `reasoning_content` in the thinking mode must be passed back to the API."),
        error("Function call is missing a thought_signature in functionCall parts."),
        error("Unknown parameter: 'messages[1].my_reasoning_content'."),
        extra("body", "messages", 1, "name"),
    ],
)
def test_a_demand_for_state_does_not_blame_it(about: object) -> None:
    assert blamed(refusal_of(about, 400), CHAT, STATE) is None


@pytest.mark.parametrize("field", [STREAM, THOUGHTS, CALL_STATE])
def test_a_refused_stream_or_state_is_remembered_for_its_model(field: TransportField) -> None:
    memory = LeftOut()
    memory.add(field, "o3")

    assert memory.of("o3") == {field}
    assert memory.of("gpt-4o") == frozenset()


def test_a_model_may_refuse_several_fields() -> None:
    memory = LeftOut()
    for field in TransportField:
        memory.add(field, "o3")

    assert memory.of("o3") == {*TransportField}
    assert memory.of("gpt-4o") == {OPTIONS, ENCODING}


@pytest.mark.parametrize("field", [OPTIONS, ENCODING])
def test_other_fields_are_remembered_for_the_provider(field: TransportField) -> None:
    memory = LeftOut()
    memory.add(field, "a")
    memory.add(STREAM, "b")

    assert memory.of("a") == {field}
    assert memory.of("b") == {field, STREAM}


def test_no_more_models_are_remembered_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = LeftOut()
    for number in range(bounds.CHOOSY_MODELS):
        memory.add(STREAM, f"m{number}")
    memory.add(STREAM, "m0")
    memory.add(STREAM, "one more")

    assert memory.of("m0") == memory.of("one more") == {STREAM}
    assert memory.of("m1") == frozenset()
