"""OpenAI's own Python clients and legacy completions, unchanged but for their address and key."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI, OpenAI
from openai.types import Completion

from tests.clients.sdk import Sdk
from tests.clients.system import KEY, System
from tests.support.upstream import ask, expected_text

pytestmark = pytest.mark.asyncio(loop_scope="package")


@pytest_asyncio.fixture(scope="package", loop_scope="package", params=[OpenAI, AsyncOpenAI])
async def sdk(request: pytest.FixtureRequest, system: System) -> AsyncIterator[Sdk]:
    """Open each of the two clients."""
    opened = Sdk(request.param(base_url=system.base_url, api_key=KEY, max_retries=0))
    yield opened
    await opened.close()


def prompt_of(request: dict[str, Any]) -> dict[str, Any]:
    """Return the same request for completions."""
    (message,) = request["messages"]
    return {name: value for name, value in request.items() if name != "messages"} | {"prompt": message["content"]}


def text_of(chunks: list[Completion], choice: int = 0) -> str:
    return "".join(each.text for chunk in chunks for each in chunk.choices if each.index == choice)


async def test_whole_and_streamed_answers_have_the_text_and_the_usage(sdk: Sdk, model: str) -> None:
    chat = ask(model=model, tokens=12)

    whole, chunks = await asyncio.gather(
        sdk.complete(**prompt_of(chat)),
        sdk.complete(**prompt_of(chat), stream=True, stream_options={"include_usage": True}),
    )

    assert isinstance(whole, Completion)
    (choice,) = whole.choices
    assert (choice.text, choice.finish_reason, choice.logprobs) == (expected_text(chat), "stop", None)
    assert (whole.object, whole.model, whole.id[:5]) == ("text_completion", model, "cmpl-")
    assert text_of(chunks) == expected_text(chat)
    assert [each.finish_reason for chunk in chunks for each in chunk.choices if each.finish_reason] == ["stop"]
    assert whole.usage is not None and chunks[-1].usage is not None
    assert whole.usage.completion_tokens == chunks[-1].usage.completion_tokens == 12


async def test_a_limit_and_several_choices_are_honoured(sdk: Sdk, model: str) -> None:
    chat = {**ask(model=model, tokens=30), "max_tokens": 4, "n": 2}

    whole, chunks = await asyncio.gather(
        sdk.complete(**prompt_of(chat)),
        sdk.complete(**prompt_of(chat) | {"prompt": [prompt_of(chat)["prompt"]]}, stream=True),
    )

    texts = [expected_text(chat, 0), expected_text(chat, 1)]
    assert [(each.text, each.finish_reason) for each in whole.choices] == [(text, "length") for text in texts]
    assert [text_of(chunks, 0), text_of(chunks, 1)] == texts


async def test_log_probabilities_belong_to_their_tokens(sdk: Sdk, model: str) -> None:
    chat = ask(model=model, tokens=6)

    whole, chunks = await asyncio.gather(
        sdk.complete(**prompt_of(chat), logprobs=1), sdk.complete(**prompt_of(chat), logprobs=1, stream=True)
    )

    logprobs = whole.choices[0].logprobs
    assert logprobs is not None
    tokens, offsets = logprobs.tokens or [], logprobs.text_offset or []
    assert "".join(tokens) == expected_text(chat)
    assert [expected_text(chat)[at:].startswith(token) for token, at in zip(tokens, offsets, strict=True)] == [True] * 6
    streamed = [each.logprobs for chunk in chunks for each in chunk.choices if each.logprobs]
    assert [token for each in streamed for token in each.tokens or []] == tokens
    assert [at for each in streamed for at in each.text_offset or []] == offsets


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"suffix": "x"}, "suffix"),
        ({"echo": True}, "echo"),
    ],
    ids=str,
)
async def test_a_field_that_a_chat_cannot_honour_is_a_bad_request_that_names_it(
    sdk: Sdk, system: System, model: str, wrong: dict[str, Any], param: str
) -> None:
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as raised:
            await sdk.complete(**{"model": model, "prompt": "Hello", **wrong}, stream=stream)
        assert (raised.value.code, raised.value.param) == ("invalid_request", param)
    assert await system.upstream.requests(model) == []


async def test_an_upstreams_refusal_is_raised(sdk: Sdk, model: str) -> None:
    refused = prompt_of(ask(model=model, fault="refuse", code="context_length_exceeded"))

    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as raised:
            await sdk.complete(**refused, stream=stream)
        assert raised.value.code == "context_length_exceeded"


async def test_a_stream_that_breaks_raises_its_error(sdk: Sdk, model: str) -> None:
    broken = prompt_of(ask(model=model, tokens=6, fault="cut", after=3))

    with pytest.raises(openai.APIError) as raised:
        await sdk.complete(**broken, stream=True)

    assert raised.value.code == "provider_unreachable"
