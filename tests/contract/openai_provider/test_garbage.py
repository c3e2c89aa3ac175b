"""Test answers that break the protocol: they are truncated, malformed, too large, compressed, or not HTTP."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from shared.model.errors import ProviderGarbage, ProviderTruncated, ProviderUnreachable
from tests.contract.openai_provider.reading import finished, read, read_through_target, text
from tests.support.upstream import Upstream, ask, expected_text
from worker.upstream.providers import http_client, http_upstream, openai_compatible
from worker.upstream.providers.openai_compatible import OpenAICompatible


@pytest.mark.parametrize("after", [0, 3])
async def test_a_clean_end_without_a_finish_reason_is_no_success(provider: OpenAICompatible, after: int) -> None:
    with pytest.raises(ProviderTruncated):
        await read_through_target(provider, ask(tokens=5, fault="truncate", after=after))


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("nonsense", "a chunk that is not an object"),
        ("bad_json", "The provider mock sent something that is not JSON"),
    ],
)
async def test_a_violation_of_the_protocol_is_garbage(
    provider: OpenAICompatible, upstream: Upstream, fault: str, sentence: str
) -> None:
    with pytest.raises(ProviderGarbage, match=sentence):
        await read(provider, ask(tokens=5, fault=fault, after=2))
    await upstream.until(lambda: not upstream.sockets)


async def test_a_byte_that_is_not_utf_8_costs_one_character(provider: OpenAICompatible) -> None:
    request = ask(tokens=5, fault="bad_utf8", after=2)
    chunks = await read(provider, request)
    assert text(chunks).replace("\ufffd", "") == expected_text(request)
    assert finished(chunks) == {0: "stop"}


@pytest.mark.parametrize(
    ("media_type", "answer", "sentence"),
    [
        ("text/html; charset=utf-8", "<html></html>", "a web page: is its URL right"),
        ("application/json", "half a", "is not a chat completion. It begins: half a"),
        ("application/json", '{"choices": [', r'not JSON. It begins: {"choices": \['),
        ("application/json", '{"foo": 1}', 'is not a chat completion. It begins: {"foo": 1}'),
        ("application/json", "[" * 100_000, "not JSON"),
        ("application/json", "[]", "a chunk that is not an object"),
        ("application/json", '{"choices": ["a"]}', "a choice that is not an object"),
        (
            "application/json",
            '{"choices": [{"message": {"tool_calls": ["a"]}, "index": "b"}]}',
            "index is not a number",
        ),
        ("text/event-stream", f"data: {'[' * 100_000}\n\n", "not JSON"),
    ],
)
async def test_an_answer_that_is_no_stream_is_called_garbage(
    provider: OpenAICompatible, media_type: str, answer: str, sentence: str
) -> None:
    with pytest.raises(ProviderGarbage, match=sentence):
        await read(provider, ask(http={"headers": {"Content-Type": media_type}, "body": answer}))


@pytest.mark.parametrize(
    "request_",
    [
        ask(fault="endless_line", after=2),
        ask(http={"status": 500, "body": "x" * 900_000}),
        ask(fault="whole", tokens=50_000),
    ],
    ids=["line", "error", "answer"],
)
async def test_no_upstream_fills_our_memory(
    provider: OpenAICompatible, upstream: Upstream, request_: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (openai_compatible, http_upstream, http_client):
        monkeypatch.setattr(module, "EVENT_BYTES", 50_000)
    with pytest.raises(ProviderGarbage, match="of over 50000 bytes"):
        await read(provider, request_)
    await upstream.until(lambda: not upstream.sockets)


@pytest.mark.parametrize(
    "answer",
    [
        {"body": {"choices": [{"message": {"content": "x" * 900_000}}]}},
        {"body": "x" * 900_000, "headers": {"Content-Type": "text/event-stream"}},
        {"body": "x" * 900_000, "status": 500},
    ],
    ids=["answer", "stream", "error"],
)
async def test_no_upstream_fills_our_memory_with_a_few_compressed_bytes(
    provider: OpenAICompatible, answer: dict[str, Any]
) -> None:
    with pytest.raises(ProviderGarbage, match=r"a compressed answer \(gzip\), which was not requested"):
        await read(provider, ask(http={**answer, "gzip": True}))
    assert finished(await read(provider, ask(tokens=1))) == {0: "stop"}


@asynccontextmanager
async def saying(answer: bytes) -> AsyncIterator[OpenAICompatible]:
    """Connect to an upstream that sends these bytes on each connection."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        provider = OpenAICompatible("mock", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
        try:
            yield provider
        finally:
            await provider.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X-Many: x\r\n" * 10_000 + b"\r\n",
    ],
    ids=["another protocol", "a long header", "many headers"],
)
async def test_an_answer_that_is_not_http_is_garbage_and_not_quoted(answer: bytes) -> None:
    async with saying(answer) as provider:
        for asked in (provider.models(), read(provider, ask(tokens=1))):
            with pytest.raises(ProviderGarbage, match=r"sent something that is not HTTP\.$"):
                await asked


async def test_a_body_that_breaks_the_rules_of_http_in_mid_stream_is_a_fault_of_the_provider() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with saying(head + b"no number\r\n") as provider:
        with pytest.raises((ProviderGarbage, ProviderUnreachable)):
            await read(provider, ask(tokens=1))
