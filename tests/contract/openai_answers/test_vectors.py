"""Test which answers to a request for embeddings are read, and that one which fails is requested once."""

import json

import pytest

from shared.model.errors import AttemptFailed, ProviderGarbage, ProviderRefused, ProviderTimeout
from tests.contract.openai_answers.raw_answers import VECTORS, refusal
from tests.contract.openai_answers.reading import EMBEDDING
from tests.support.raw_upstream import JSON, Raw, RawUpstream, as_json, sent
from worker.upstream.providers.openai_compatible import OpenAICompatible
from worker.upstream.wire.vectors import read_vectors


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (as_json({"detail": "Too many inputs."}), ProviderRefused),
        (refusal("Bad."), ProviderRefused),
        (sent(b"late", media_type="text/plain", status=504), ProviderTimeout),
        (sent(b"ok", media_type="text/plain"), ProviderGarbage),
        (sent(b"", media_type=JSON), ProviderGarbage),
        (sent(b"<html>", media_type=None), ProviderGarbage),
    ],
)
async def test_vectors_that_do_not_come_are_asked_for_once(
    upstream: RawUpstream, provider: OpenAICompatible, answer: Raw, error: type[AttemptFailed]
) -> None:
    upstream.play("m", answer)
    with pytest.raises(error):
        await provider.embed(EMBEDDING)

    assert len(upstream.asked("m")) == 1


@pytest.mark.parametrize("media_type", [JSON, "text/plain", None])
async def test_vectors_come_under_any_type(
    upstream: RawUpstream, provider: OpenAICompatible, media_type: str | None
) -> None:
    upstream.play("m", sent(json.dumps(VECTORS).encode(), media_type=media_type))

    assert await provider.embed(EMBEDDING) == read_vectors(VECTORS, 1)
