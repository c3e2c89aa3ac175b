"""Test that a field which an upstream refuses is left out, for as long as that helps."""

import pytest
import structlog

from shared.model.errors import ProviderRefused
from shared.model.routes import EmbeddingEncoding, MaxTokensField, RequestRules
from tests.contract.openai_answers.raw_answers import FIELDS, HELLO, VECTORS, WHOLE, refusal
from tests.contract.openai_answers.reading import ASKED, EMBEDDING, KEY, answered, read, text
from tests.support.raw_upstream import MAIN, Body, Raw, RawUpstream, as_json, chunk, events
from worker.upstream.providers.openai_compatible import OpenAICompatible
from worker.upstream.wire.vectors import read_vectors

VERIFY = refusal("Your organization must be verified to stream this model.", param="stream", code="unsupported_value")
EXTRA_OPTIONS = as_json({"detail": [{"loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}]}, 422)
FLOAT = refusal("encoding_format must be float")
WAV = refusal(
    "'audio.format' does not support 'wav' when stream=true. Supported values are: 'pcm16'.", param="audio.format"
)


def fields(upstream: RawUpstream) -> list[set[str]]:
    """Return the fields of each request, except those that all requests have."""
    return [body.keys() - {"model", "messages", "input"} for body in upstream.asked("m")]


@pytest.mark.parametrize(
    ("refused", "answer", "without"),
    [
        (VERIFY, WHOLE, set()),
        (EXTRA_OPTIONS, HELLO, {"stream"}),
        (events({"error": {"message": 'Unknown name "stream_options"', "code": 400}}), HELLO, {"stream"}),
    ],
    ids=["stream", "stream_options", "inside a 200"],
)
async def test_a_refused_field_of_ours_is_left_out_and_stays_out(
    upstream: RawUpstream, provider: OpenAICompatible, refused: Raw, answer: Raw, without: set[str]
) -> None:
    with structlog.testing.capture_logs() as logs:
        assert await answered(upstream, provider, refused, answer) == "Hello world"
        assert text(await read(provider)) == "Hello world"

    assert fields(upstream) == [{"stream", "stream_options"}, without, without]
    (line,) = logs
    assert (line["event"], line["log_level"], line["provider"]) == ("provider.field_left_out", "info", "mock")


async def test_a_stream_is_left_out_for_its_model_only(upstream: RawUpstream, provider: OpenAICompatible) -> None:
    await answered(upstream, provider, VERIFY, WHOLE)
    upstream.play("other", HELLO)
    await read(provider, model="other")

    assert upstream.asked("other")[0]["stream"] is True


async def test_both_fields_can_be_refused_one_after_the_other(
    upstream: RawUpstream, provider: OpenAICompatible
) -> None:
    assert await answered(upstream, provider, EXTRA_OPTIONS, VERIFY, WHOLE) == "Hello world"
    assert fields(upstream) == [{"stream", "stream_options"}, {"stream"}, set()]


async def test_a_refusal_of_streaming_for_one_request_is_not_remembered(
    upstream: RawUpstream, provider: OpenAICompatible
) -> None:
    assert await answered(upstream, provider, WAV, WHOLE, HELLO, audio={"format": "wav"}) == "Hello world"
    await read(provider)

    assert fields(upstream) == [{"stream", "stream_options", "audio"}, {"audio"}, {"stream", "stream_options"}]


@pytest.mark.parametrize(
    "answer",
    [
        refusal("Unknown parameter: 'top_k'.", param="top_k"),
        refusal("Bad."),
        refusal("temperature can't be used with stream_options", param="temperature"),
        refusal("Streaming is not supported while busy.", 429),
        as_json({"detail": FIELDS}, 422),
    ],
)
async def test_a_refusal_that_blames_nothing_of_ours_is_final(
    upstream: RawUpstream, provider: OpenAICompatible, answer: Raw
) -> None:
    with pytest.raises(ProviderRefused):
        await answered(upstream, provider, answer, HELLO, top_k=5, temperature=0)

    assert len(upstream.asked("m")) == 1


async def test_a_field_whose_absence_does_not_help_is_not_remembered(
    upstream: RawUpstream, provider: OpenAICompatible
) -> None:
    with pytest.raises(ProviderRefused, match="answered with 400"):
        await answered(upstream, provider, VERIFY, VERIFY, HELLO)
    await read(provider)

    assert fields(upstream) == [{"stream", "stream_options"}, set(), {"stream", "stream_options"}]


async def test_an_answer_that_has_begun_is_not_asked_again(upstream: RawUpstream, provider: OpenAICompatible) -> None:
    torn = events(chunk({"content": "He"}), {"error": {"message": "stream_options", "param": "stream_options"}})
    with pytest.raises(ProviderRefused):
        await answered(upstream, provider, torn, HELLO)

    assert len(upstream.asked("m")) == 1


async def test_a_refused_encoding_of_vectors_is_left_out_and_stays_out(
    upstream: RawUpstream, provider: OpenAICompatible
) -> None:
    upstream.play("m", FLOAT, as_json(VECTORS))
    for _ in range(2):
        assert await provider.embed(EMBEDDING) == read_vectors(VECTORS, 1)

    assert fields(upstream) == [{"encoding_format"}, set(), set()]


async def test_the_rules_of_a_provider_are_those_of_its_requests(upstream: RawUpstream) -> None:
    rules = RequestRules(
        streaming=False,
        embedding_encoding=EmbeddingEncoding.FLOAT,
        max_tokens_field=MaxTokensField.MAX_COMPLETION_TOKENS,
    )
    provider = OpenAICompatible("mock", upstream.base_url(MAIN), KEY, rules)

    def answer(body: Body) -> Raw:
        return as_json(VECTORS) if "input" in body else WHOLE

    upstream.play("m", answer)
    assert [delta for each in await read(provider, max_tokens=5) for delta in each.deltas] == [
        {"content": "Hello world"}
    ]
    await provider.embed(EMBEDDING)
    await provider.close()

    chat, embedding = upstream.asked("m")
    assert chat == {**ASKED, "max_completion_tokens": 5}
    assert embedding == {**EMBEDDING, "encoding_format": "float"}
