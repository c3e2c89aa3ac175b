"""Test the tests' own upstream over a wire: it sends the rest, refuses wrong requests, and waits for its reader."""

import asyncio
import json
import sys
from urllib.parse import urlsplit

import pytest

from shared.model.errors import ProviderRefused
from shared.model.routes import Continuation
from tests.support.upstream import TIMEOUT_S, Manner, ask, running_upstream
from worker.upstream.providers.openai_compatible import OpenAICompatible

TOKENS = 300
AHEAD = 2_048
GOES_ON = Manner(continuation=Continuation.PREFILL)


async def test_a_wrong_beginning_is_refused_and_remembered() -> None:
    request = ask(tokens=5)
    wrong = {**request, "messages": [*request["messages"], {"role": "assistant", "content": "?"}]}
    async with running_upstream(manner=GOES_ON) as upstream:
        provider = OpenAICompatible("upstream", upstream.base_url)
        with pytest.raises(ProviderRefused, match="After 0 tokens it has"):
            async with provider.stream(wrong) as chunks:
                await anext(chunks)
        await provider.close()

    (problem,) = upstream.meter.problems
    assert problem.startswith("The upstream can't go on as it was asked to: After 0 tokens")
    assert upstream.meter.generated == 0


async def test_an_answer_requested_again_from_the_start_is_generated_twice() -> None:
    async with running_upstream(manner=GOES_ON) as upstream:
        provider = OpenAICompatible("upstream", upstream.base_url)
        for _ in range(2):
            async with provider.stream(ask(tokens=5)) as chunks:
                assert [chunk async for chunk in chunks]
        await provider.close()

    assert (upstream.meter.generated, upstream.meter.twice) == (10, 5)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a socket's reader has not read")
async def test_the_upstream_stops_with_its_reader_and_continues_with_it() -> None:
    body = json.dumps({**ask(tokens=TOKENS), "stream": True}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with running_upstream(manner=Manner(ahead=AHEAD)) as upstream:
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(upstream.base_url).port, limit=1 << 20)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(head + body)
        seen = await upstream.request()
        await upstream.until(lambda: seen.held_up)
        held_up_at = seen.tokens
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        async with asyncio.timeout(TIMEOUT_S):
            said = await reader.readuntil(b"\r\n0\r\n\r\n")
        writer.close()

    assert 0 < held_up_at < 50
    assert said.count(b'"content":') == TOKENS + 1  # the role's chunk has an empty one
