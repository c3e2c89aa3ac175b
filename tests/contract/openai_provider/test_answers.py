"""Test that answers of any form arrive whole, and that requests are sent unchanged."""

import json

import pytest

from tests.contract.openai_provider.reading import KEY, deltas, finished, read, read_through_target, text
from tests.support.upstream import Upstream, ask, expected_text
from worker.upstream import chain
from worker.upstream.providers.openai_compatible import OpenAICompatible


async def test_a_text_comes_through_to_the_letter(provider: OpenAICompatible) -> None:
    request = ask(tokens=500, seed=3)
    chunks = await read(provider, request)
    assert text(chunks) == expected_text(request)
    assert len(deltas(chunks)) == 500
    assert finished(chunks) == {0: "stop"}
    assert chunks[-1].usage == {"prompt_tokens": 5, "completion_tokens": 500, "total_tokens": 505}


async def test_tokens_of_one_packet_become_separate_deltas(provider: OpenAICompatible) -> None:
    request = ask(tokens=500, burst=50)
    chunks = await read(provider, request)
    assert (text(chunks), len(deltas(chunks))) == (expected_text(request), 500)


async def test_choices_reasoning_tool_calls_and_logprobs_come_through(provider: OpenAICompatible) -> None:
    arguments = {"city": "東京", "days": [1, 2]}
    request = {
        **ask(tokens=3, reasoning=2, tool_calls=[{"name": "weather", "arguments": arguments}]),
        "n": 2,
        "logprobs": True,
    }
    chunks = await read(provider, request)
    for choice in (0, 1):
        said = [delta for delta in deltas(chunks) if delta.get("index", 0) == choice]
        assert "".join(d.get("content", "") for d in said) == expected_text(request, choice)
        assert "".join(d.get("reasoning_content", "") for d in said) == "thought 0. thought 1. "
        assert all(d["logprobs"]["content"][0]["token"] == d["content"] for d in said if "content" in d)
        calls = [call for d in said for call in d.get("tool_calls", ())]
        assert calls[0]["function"]["name"] == "weather"
        assert json.loads("".join(call["function"]["arguments"] for call in calls)) == arguments
    assert finished(chunks) == {0: "tool_calls", 1: "tool_calls"}


async def test_a_lone_surrogate_is_replaced_in_an_answer_and_passed_on_in_a_request(
    provider: OpenAICompatible, upstream: Upstream
) -> None:
    event = 'data: {"choices":[{"index":0,"delta":{"content":"\\ud83d"},"finish_reason":"stop"}]}\n\n'
    headers = {"Content-Type": "text/event-stream"}
    request = {**ask(http={"headers": headers, "body": event}), "user": "\ud83d"}
    assert text(await read(provider, request)) == "\ufffd"
    assert upstream.requests[0].body["user"] == "\ud83d"


async def test_the_request_is_sent_as_it_is_but_always_asks_for_a_stream_with_usage(
    provider: OpenAICompatible, upstream: Upstream
) -> None:
    options = {"include_usage": False, "include_obfuscation": False}
    request = {**ask(tokens=1), "temperature": 0.5, "x_vendor": {"any": None}, "stream_options": options}
    await read(provider, request)
    sent = {"stream": True, "stream_options": {"include_usage": True, "include_obfuscation": False}}
    assert upstream.requests[0].body == {**request, **sent}
    assert upstream.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert upstream.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("options", [None, "yes", []])
async def test_stream_options_that_are_none_do_not_matter(provider: OpenAICompatible, options: object) -> None:
    assert (await read(provider, {**ask(tokens=1), "stream_options": options}))[-1].usage


async def test_an_upstream_that_cannot_stream_is_understood_all_the_same(provider: OpenAICompatible) -> None:
    call = {"name": "weather", "arguments": {"city": "Paris"}}
    request = {**ask(fault="whole", tokens=5, tool_calls=[call, call]), "n": 2}
    chunks = await read_through_target(provider, request)
    assert len(chunks) == 1
    for choice in (0, 1):
        assert text(chunks, choice) == expected_text(request, choice)
    calls = [call for delta in chunks[0].deltas if not delta.get("index") for call in delta.get("tool_calls", ())]
    assert [call["index"] for call in calls] == [0, 1]
    assert finished(chunks) == {0: "tool_calls", 1: "tool_calls"}
    assert chunks[0].usage


async def test_a_text_that_is_not_streamed_is_one_delta(provider: OpenAICompatible) -> None:
    request = ask(fault="whole", tokens=5)
    chunks = await read_through_target(provider, request)
    assert deltas(chunks) == [{"content": expected_text(request)}]


async def test_an_answer_without_done_is_whole_if_it_has_finished(provider: OpenAICompatible) -> None:
    request = ask(tokens=5, fault="no_done")
    assert text(await read_through_target(provider, request)) == expected_text(request)


async def test_an_answer_that_never_ends_is_whole_if_it_has_finished(
    provider: OpenAICompatible, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain, "LAST_WORDS_S", 0.05)
    request = ask(tokens=5, fault="never_close")
    chunks = await read_through_target(provider, request)
    assert text(chunks) == expected_text(request)
    assert chunks[-1].usage
    await upstream.until(lambda: upstream.requests[0].closed)


async def test_done_is_the_end_even_if_the_connection_stays_open(
    provider: OpenAICompatible, upstream: Upstream
) -> None:
    request = ask(tokens=5, fault="no_end")
    assert text(await read(provider, request)) == expected_text(request)
    await upstream.until(lambda: upstream.requests[0].closed)
