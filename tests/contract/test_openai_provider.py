"""Test the real openai client against an upstream that misbehaves on a real socket."""

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from shared.model.errors import (
    AttemptFailed,
    ProviderGarbage,
    ProviderRefused,
    ProviderTimeout,
    ProviderTruncated,
    ProviderUnreachable,
    StartupError,
)
from tests.support.upstream import TIMEOUT_S, Upstream, ask, expected_text, running_upstream
from worker.upstream import chain
from worker.upstream.chain import ProviderTarget
from worker.upstream.providers import http_client, http_upstream, openai_compatible
from worker.upstream.providers.openai_compatible import OpenAICompatible
from worker.upstream.providers.scripted import MODEL
from worker.upstream.providers.scripted import embed as scripted_answer
from worker.upstream.wire.chunk import Chunk
from worker.upstream.wire.vectors import Vectors, read_vectors

KEY = "sk-of-the-upstream"
TOO_LONG = {
    "error": {
        "code": 500,
        "message": "input (901 tokens) is too large to process. increase the physical batch size",
        "type": "server_error",
    }
}
Reading = Callable[[], Coroutine[Any, Any, object]]


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with running_upstream() as running:
        yield running


@pytest.fixture
async def provider(upstream: Upstream) -> AsyncIterator[OpenAICompatible]:
    opened = OpenAICompatible("mock", upstream.base_url, KEY)
    yield opened
    await opened.close()


async def read(provider: OpenAICompatible, request: dict[str, Any]) -> list[Chunk]:
    async with asyncio.timeout(TIMEOUT_S), provider.stream(request) as chunks:
        return [chunk async for chunk in chunks]


async def read_through_target(provider: OpenAICompatible, request: dict[str, Any]) -> list[Chunk]:
    target = ProviderTarget(provider, first_token_s=TIMEOUT_S, gap_s=TIMEOUT_S)
    async with target.stream(request, total_s=TIMEOUT_S) as chunks:
        return [chunk async for chunk in chunks]


def deltas(chunks: list[Chunk]) -> list[dict[str, Any]]:
    return [delta for chunk in chunks for delta in chunk.deltas]


def text(chunks: list[Chunk], choice: int = 0) -> str:
    return "".join(delta.get("content", "") for delta in deltas(chunks) if delta.get("index", 0) == choice)


def finished(chunks: list[Chunk]) -> dict[int, str]:
    return dict(end for chunk in chunks for end in chunk.finished)


# --- Answers that arrive


@pytest.mark.parametrize("steps", range(2, 8))
async def test_a_process_that_was_frozen_while_it_connected_connects_again(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    monkeypatch.setattr(http_upstream, "CONNECT_S", 0.05)
    monkeypatch.setattr(http_upstream, "_LATE_S", 0.05)
    provider = OpenAICompatible("mock", upstream.base_url, KEY)
    reading = asyncio.create_task(read(provider, ask(tokens=1)))
    for _ in range(steps):
        await asyncio.sleep(0)
    time.sleep(0.15)  # noqa: ASYNC251 - nothing runs in a process that is frozen

    assert finished(await reading) == {0: "stop"}
    assert len(upstream.requests) == 1
    await provider.close()


async def test_a_text_comes_through_to_the_letter(provider: OpenAICompatible) -> None:
    request = ask(tokens=500, seed=3)
    chunks = await read(provider, request)
    assert text(chunks) == expected_text(request)
    assert len(deltas(chunks)) == 500
    assert finished(chunks) == {0: "stop"}
    assert chunks[-1].usage == {"prompt_tokens": 5, "completion_tokens": 500, "total_tokens": 505}


async def test_tokens_that_come_in_one_packet_are_told_apart(provider: OpenAICompatible) -> None:
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


async def test_nothing_but_the_settings_says_who_we_are(monkeypatch: pytest.MonkeyPatch, upstream: Upstream) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "from-the-environment")
    provider = OpenAICompatible("local", upstream.base_url)
    await read(provider, ask(tokens=1))
    await provider.close()
    assert "from-the-environment" not in upstream.requests[0].headers.values()


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


async def test_one_connection_serves_one_answer_after_the_other(provider: OpenAICompatible, upstream: Upstream) -> None:
    for _ in range(3):
        await read_through_target(provider, ask(tokens=5))
    assert upstream.connections == 1


async def test_hundreds_of_streams_run_at_once(provider: OpenAICompatible, upstream: Upstream) -> None:
    streams = 300
    spoke = asyncio.Semaphore(0)

    async def read_until_cancelled() -> None:
        async with provider.stream(ask(tokens=5, fault="stall", after=1)) as chunks:
            async for _ in chunks:
                spoke.release()

    async with asyncio.timeout(30), anyio.create_task_group() as tasks:
        for _ in range(streams):
            tasks.start_soon(read_until_cancelled)
        for _ in range(2 * streams):  # a role's chunk and a token's
            await spoke.acquire()
        assert upstream.sockets == streams
        tasks.cancel_scope.cancel()
    await upstream.until(lambda: upstream.closed == streams and not upstream.sockets)


# --- Leaving closes the upstream's socket (design.md, invariant 9)

SILENT = {
    "before the headers": ask(fault="hang"),
    "before the first token": ask(fault="stall"),
    "in mid-answer": ask(fault="stall", after=3),
    "among keep-alives": ask(fault="keepalives", after=3),
}


async def cancel_task(reading: Reading, upstream: Upstream) -> None:
    task = asyncio.create_task(reading())
    await fallen_silent(upstream)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def cancel_scope(reading: Reading, upstream: Upstream) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reading)
        await fallen_silent(upstream)
        tasks.cancel_scope.cancel()


async def fallen_silent(upstream: Upstream) -> None:
    seen = await upstream.request()
    await upstream.until(lambda: seen.silent)


@pytest.mark.parametrize("cancel", [cancel_task, cancel_scope])
@pytest.mark.parametrize("request_", SILENT.values(), ids=SILENT.keys())
async def test_a_cancel_closes_the_socket(
    provider: OpenAICompatible,
    upstream: Upstream,
    cancel: Callable[..., Awaitable[None]],
    request_: dict[str, Any],
) -> None:
    await cancel(lambda: read(provider, request_), upstream)
    await upstream.until(lambda: upstream.requests[0].closed and not upstream.sockets)


async def test_a_cancel_closes_the_socket_while_the_caller_is_busy(
    provider: OpenAICompatible, upstream: Upstream
) -> None:
    with anyio.CancelScope() as scope:
        async with provider.stream(ask(tokens=5, fault="stall", after=3)) as chunks:
            async for chunk in chunks:
                if chunk.deltas:
                    scope.cancel()
                    await anyio.sleep_forever()
    assert scope.cancelled_caught
    await upstream.until(lambda: upstream.requests[0].closed and not upstream.sockets)


async def test_leaving_early_closes_the_socket(provider: OpenAICompatible, upstream: Upstream) -> None:
    async with provider.stream(ask(tokens=100_000)) as chunks:
        async for chunk in chunks:
            if chunk.deltas:
                break
    await upstream.until(lambda: upstream.requests[0].closed and not upstream.sockets)


async def test_a_time_out_closes_the_socket(
    provider: OpenAICompatible, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = ProviderTarget(provider, first_token_s=1000, gap_s=1000)

    async def read_silence() -> None:
        async with target.stream(ask(fault="keepalives"), total_s=10_000) as chunks:
            await anext(chunks)

    reading = asyncio.create_task(read_silence())
    await fallen_silent(upstream)
    loop = asyncio.get_running_loop()
    real = loop.time
    monkeypatch.setattr(loop, "time", lambda: real() + 1000)
    with pytest.raises(ProviderTimeout, match="The provider mock sent no token for 1000 s"):
        await reading
    await upstream.until(lambda: upstream.requests[0].closed and not upstream.sockets)


async def test_an_upstream_of_its_own_process_sees_the_close(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.support.upstream", "--for", "60"]
    root = Path(__file__).parents[2]
    process = await asyncio.create_subprocess_exec(*command, cwd=root, stdout=asyncio.subprocess.PIPE, env=os.environ)
    try:
        assert process.stdout is not None
        base_url = (await process.stdout.readline()).decode().strip()
        provider = OpenAICompatible("mock", base_url)
        request = ask(tokens=50)
        assert text(await read(provider, request)) == expected_text(request)
        async with provider.stream(ask(tokens=5, fault="stall", after=1)) as chunks:
            await anext(chunks)
        await provider.close()
        async with httpx2.AsyncClient() as client:
            seen = (await client.get(base_url.removesuffix("v1") + "observations?closed=1&requests=2")).json()
        assert [request["closed"] for request in seen["requests"]] == [False, True]
        assert seen["requests"][1]["started"] < seen["requests"][1]["ended"]
        assert seen["sockets"] == 0
    finally:
        process.terminate()
        assert await process.wait() == 0


# --- Failures


def body(message: str, **fields: object) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None, **fields}}


REFUSED: list[tuple[int, object, str]] = [
    (400, body("Bad."), "invalid_request"),
    (400, body("Too long.", code="context_length_exceeded"), "context_length_exceeded"),
    (400, body("Too long.", type="exceed_context_size_error", code=400), "context_length_exceeded"),
    (400, body("Not that.", code="content_filter"), "content_policy_violation"),
    (400, body("Not that.", code="content_policy_violation"), "content_policy_violation"),
    (401, body("Who?", code="invalid_api_key"), "upstream_auth"),
    (402, {"detail": "Pay."}, "insufficient_quota"),
    (403, body("No."), "upstream_auth"),
    (404, body("What?", code="model_not_found"), "model_not_found"),
    (404, {"error": "model 'x' not found"}, "model_not_found"),
    (404, {"detail": "Not Found"}, "model_not_found"),
    (409, body("Now?"), "server_error"),
    (413, body("Too much."), "invalid_request"),
    (422, {"detail": [{"loc": ["body", "n"]}]}, "invalid_request"),
    (429, body("Slow.", type="requests", code="rate_limit_exceeded"), "rate_limit_exceeded"),
    (429, body("Pay.", type="insufficient_quota", code="insufficient_quota"), "insufficient_quota"),
    (429, "slow down", "rate_limit_exceeded"),
    (500, body("Oops.", type="server_error"), "server_error"),
    (502, "<html><body>Bad Gateway</body></html>", "server_error"),
    (503, body("Busy.", type="overloaded_error"), "provider_overloaded"),
    (503, None, "provider_overloaded"),
    (529, {"error": {"type": "overloaded_error", "message": ["no", "text"], "code": ["x"]}}, "provider_overloaded"),
    (418, {"error": {"code": {"a": 1}}}, "provider_error"),
]


@pytest.mark.parametrize(("status", "answer", "code"), REFUSED)
async def test_an_error_becomes_a_refusal(provider: OpenAICompatible, status: int, answer: object, code: str) -> None:
    with pytest.raises(ProviderRefused, match=f"^The provider mock answered with {status}") as refused:
        await read(provider, ask(http={"status": status, "body": answer}))
    assert refused.value.code == code


@pytest.mark.parametrize("status", [408, 504])
async def test_an_upstream_that_waited_for_its_own_upstream_timed_out(provider: OpenAICompatible, status: int) -> None:
    with pytest.raises(ProviderTimeout, match=f"answered with {status}: something behind it took too long\\."):
        await read(provider, ask(http={"status": status, "body": body("Too slow.")}))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"message": "Slow.", "type": "tokens", "code": "rate_limit_exceeded"}, "rate_limit_exceeded"),
        ({"message": "Busy.", "type": "overloaded_error"}, "provider_overloaded"),
        ({"message": "Busy.", "code": 503}, "provider_overloaded"),
        ({"message": "Bad.", "type": "BadRequestError", "code": 400}, "invalid_request"),
        ({"message": "Bad.", "type": "invalid_request_error", "code": None}, "invalid_request"),
        ({"message": "Oops.", "type": "server_error", "code": "server_error"}, "server_error"),
        ({"message": "Oops.", "code": 12}, "provider_error"),
        ("Oops.", "provider_error"),
        (["Oops."], "provider_error"),
    ],
)
@pytest.mark.parametrize("after", [0, 3])
async def test_an_error_in_mid_stream_becomes_a_refusal(
    provider: OpenAICompatible, upstream: Upstream, error: object, code: str, after: int
) -> None:
    with pytest.raises(ProviderRefused, match=r"^The provider mock answered with") as refused:
        await read(provider, ask(tokens=5, fault="error", error=error, after=after))
    assert refused.value.code == code


async def test_a_timeout_told_in_mid_stream_is_one(provider: OpenAICompatible) -> None:
    with pytest.raises(ProviderTimeout):
        await read(provider, ask(fault="error", error={"message": "Slow.", "code": 504}))


async def test_an_error_in_place_of_a_whole_answer_becomes_a_refusal(provider: OpenAICompatible) -> None:
    with pytest.raises(ProviderRefused, match="an error: Busy"):
        await read(provider, ask(http={"body": body("Busy.")}))


async def test_a_model_that_nobody_knows_is_not_found(provider: OpenAICompatible) -> None:
    with pytest.raises(ProviderRefused, match="answered with 404: There is no model 'unknown-7b'") as refused:
        await read(provider, ask(model="unknown-7b"))
    assert (refused.value.code, refused.value.status, refused.value.param) == ("model_not_found", 404, "model")


@pytest.mark.parametrize("param", [None, 5, "x" * 1000])
async def test_a_param_that_is_no_name_is_not_passed_on(provider: OpenAICompatible, param: object) -> None:
    with pytest.raises(ProviderRefused) as refused:
        await read(provider, ask(http={"status": 400, "body": body("Bad.", param=param)}))
    assert refused.value.param is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "0.5"}, 0.5),
        ({"Retry-After": "7", "retry-after-ms": "250"}, 0.25),
        ({"Retry-After": "86400"}, 3600.0),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "inf"}, 3600.0),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT"}, None),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT", "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 30.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT", "Date": "Wed, 21 Oct 2026 07:29:00 GMT"}, 0.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:30", "Date": "Wed, 21 Oct 2026 07:29:00 GMT"}, None),
    ],
)
async def test_a_refusal_says_how_long_to_wait(
    provider: OpenAICompatible, headers: dict[str, str], seconds: float | None
) -> None:
    with pytest.raises(ProviderRefused) as refused:
        await read(provider, ask(http={"status": 429, "headers": headers, "body": body("Slow.")}))
    assert refused.value.retry_after_s == seconds


async def test_nothing_is_retried_here(provider: OpenAICompatible, upstream: Upstream) -> None:
    with pytest.raises(ProviderRefused):
        await read(provider, ask(http={"status": 503, "headers": {"x-should-retry": "true"}}))
    with pytest.raises(ProviderUnreachable):
        await read(provider, ask(fault="reset"))
    assert len(upstream.requests) == 2


WELL = b'data: {"choices":[{"index":0,"delta":{"content":"Well."},"finish_reason":"stop"}]}\n\n'


async def test_a_kept_connection_that_the_other_side_has_closed_is_not_its_failure() -> None:
    """Close a connection after an answer, without notice: a request that could not be written to it was not made."""
    answered = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    answered += b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (WELL, b"data: [DONE]\n\n"))
    asked = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        await reader.readexactly(int(head.partition("content-length: ")[2].partition("\r\n")[0]))
        asked += 1
        writer.write(answered + b"0\r\n\r\n")
        await writer.drain()
        writer.transport.abort()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        provider = OpenAICompatible("mock", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
        for _ in range(20):
            assert text(await read(provider, ask())) == "Well."
        await provider.close()
    assert asked == 20


async def test_our_key_is_not_told_to_the_caller() -> None:
    async with running_upstream(key="sk-right") as upstream:
        provider = OpenAICompatible("mock", upstream.base_url, "sk-wrong")
        with pytest.raises(ProviderRefused, match=r"401: it does not accept this gateway's credentials\.$") as refused:
            await read(provider, ask())
        assert refused.value.code == "upstream_auth"
        await provider.close()


async def test_a_long_message_is_cut_and_put_on_one_line(provider: OpenAICompatible) -> None:
    with pytest.raises(ProviderRefused) as refused:
        await read(provider, ask(http={"status": 400, "body": body("a\r\nb " * 10_000)}))
    assert str(refused.value).startswith("The provider mock answered with 400: a b a b ")
    assert len(str(refused.value)) < 600


@pytest.mark.parametrize(("fault", "after"), [("reset", 0), ("cut", 0), ("reset", 3), ("cut", 3)])
async def test_a_broken_connection_is_told_as_one(provider: OpenAICompatible, fault: str, after: int) -> None:
    with pytest.raises(ProviderUnreachable, match=r"^The connection to the provider mock failed\.$"):
        await read(provider, ask(tokens=5, fault=fault, after=after))


async def test_an_upstream_that_is_not_there_is_told_as_such(upstream: Upstream) -> None:
    async with running_upstream() as gone:
        provider = OpenAICompatible("mock", gone.base_url)
    with pytest.raises(ProviderUnreachable, match=r"^The connection to the provider mock failed\.$"):
        await read(provider, ask())
    await provider.close()


async def test_a_name_that_does_not_resolve_is_told_as_unreachable() -> None:
    provider = OpenAICompatible("mock", "http://upstream.invalid/v1")
    with pytest.raises(ProviderUnreachable):
        await read(provider, ask())
    await provider.close()


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
async def test_what_is_not_the_protocol_is_called_garbage(
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
async def test_what_is_no_http_is_called_garbage_and_not_quoted(answer: bytes) -> None:
    async with saying(answer) as provider:
        for asked in (provider.models(), read(provider, ask(tokens=1))):
            with pytest.raises(ProviderGarbage, match=r"sent something that is not HTTP\.$"):
                await asked


async def test_a_body_that_breaks_the_rules_of_http_in_mid_stream_is_a_fault_of_the_provider() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with saying(head + b"no number\r\n") as provider:
        with pytest.raises((ProviderGarbage, ProviderUnreachable)):
            await read(provider, ask(tokens=1))


async def test_an_upstream_none_of_whose_addresses_answers_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_upstream, "CONNECT_S", 0.05)
    monkeypatch.setattr(http_upstream, "_LATE_S", 0.01)
    with socket.socket() as hung:
        # A full backlog: the kernel answers no connection.
        hung.bind(("127.0.0.1", 0))
        hung.listen(0)
        port = hung.getsockname()[1]
        filling = [socket.socket() for _ in range(3)]
        for each in filling:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        provider = OpenAICompatible("mock", f"http://somewhere.test:{port}/v1")
        loop = asyncio.get_running_loop()
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))] * 3

        async def resolve(*_: Any, **__: Any) -> Any:
            return found

        monkeypatch.setattr(loop, "getaddrinfo", resolve)
        with pytest.raises(ProviderUnreachable):
            await read(provider, ask(tokens=1))
        await provider.close()
        for each in filling:
            each.close()


@pytest.mark.parametrize("url", ["", "localhost:8000/v1", "ftp://host/v1", "http://", "http://host:port/v1"])
def test_an_address_that_is_none_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(StartupError, match="must be like https://api"):
        OpenAICompatible("mock", url)


@pytest.mark.parametrize("key", ["sk-\n", "sk-é", "sk-\x7f"])
def test_a_key_that_can_be_none_is_refused_at_the_start(key: str) -> None:
    with pytest.raises(StartupError, match="printable ASCII") as refused:
        OpenAICompatible("mock", "http://host/v1", key)
    assert key not in str(refused.value)


# --- Models


async def test_models_are_listed(provider: OpenAICompatible) -> None:
    assert await provider.models() == ["scripted"]
    assert provider.name == "mock"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"object": "list"}, ProviderGarbage),
        ([], ProviderGarbage),
        ("half a", ProviderGarbage),
    ],
)
async def test_a_list_of_models_that_is_none_is_called_garbage(
    upstream: Upstream, answer: object, error: type[AttemptFailed]
) -> None:
    upstream.models = answer
    provider = OpenAICompatible("mock", upstream.base_url)
    with pytest.raises(error):
        await provider.models()
    await provider.close()


async def test_models_without_a_name_are_left_out(upstream: Upstream, provider: OpenAICompatible) -> None:
    upstream.models = {"data": [{"id": "a"}, {"id": 5}, "b", {}, {"id": "c"}]}
    assert await provider.models() == ["a", "c"]


async def test_models_of_an_upstream_that_refuses_are_an_error() -> None:
    async with running_upstream(key="sk-right") as upstream:
        provider = OpenAICompatible("mock", upstream.base_url)
        with pytest.raises(ProviderRefused) as refused:
            await provider.models()
        assert refused.value.code == "upstream_auth"
        await provider.close()


async def test_models_of_an_upstream_that_is_silent_are_an_error(
    upstream: Upstream, provider: OpenAICompatible, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai_compatible, "MODELS_S", 0.05)
    upstream.models = None
    with pytest.raises(ProviderTimeout, match=r"did not list its models within 0\.05 s\.$"):
        await provider.models()


# --- Embeddings


def embedding(*inputs: Any, **fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "input": list(inputs), **fields}


def scripted(**script: Any) -> str:
    """Build an input that makes the upstream do this."""
    return json.dumps({"script": script})


async def embed(provider: OpenAICompatible, *inputs: Any, **fields: Any) -> Vectors:
    async with asyncio.timeout(TIMEOUT_S):
        return await provider.embed(embedding(*inputs, **fields))


async def test_vectors_are_asked_for_in_base64_and_come_through(provider: OpenAICompatible, upstream: Upstream) -> None:
    vectors = await embed(provider, "one", [1, 2], user="me", dimensions=5)

    body = upstream.requests[0].body
    assert body == {**embedding("one", [1, 2], user="me", dimensions=5), "encoding_format": "base64"}
    assert upstream.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert vectors == read_vectors(scripted_answer(embedding("one", [1, 2], dimensions=5)), 2)
    assert (vectors.dimensions, vectors.prompt_tokens) == (5, 3)


async def test_lists_of_numbers_are_taken_too(provider: OpenAICompatible) -> None:
    in_floats = scripted_answer(embedding("one"))

    assert await embed(provider, scripted(http={"body": in_floats})) == read_vectors(in_floats, 1)


@pytest.mark.parametrize(
    ("script", "error", "code"),
    [
        ({"fault": "refuse", "code": "rate_limit_exceeded"}, ProviderRefused, "rate_limit_exceeded"),
        ({"http": {"status": 400, "body": {"error": {"message": "No.", "param": "input"}}}}, ProviderRefused, None),
        ({"http": {"body": {"error": {"message": "No.", "code": "server_error"}}}}, ProviderRefused, "server_error"),
        ({"http": {"status": 500, "body": TOO_LONG}}, ProviderRefused, "context_length_exceeded"),
        ({"http": {"status": 504, "body": "late"}}, ProviderTimeout, None),
        ({"http": {"body": {"object": "list", "data": []}}}, ProviderGarbage, None),
        ({"http": {"body": "<html>", "headers": {"Content-Type": "text/html"}}}, ProviderGarbage, None),
        ({"http": {"body": "no json", "headers": {"Content-Type": "application/json"}}}, ProviderGarbage, None),
        ({"http": {"body": {}, "gzip": True}}, ProviderGarbage, None),
        ({"fault": "reset"}, ProviderUnreachable, None),
        ({"fault": "cut"}, ProviderUnreachable, None),
    ],
)
async def test_what_goes_wrong_with_vectors_is_told_as_with_a_chat(
    script: dict[str, Any], error: type[AttemptFailed], code: str | None, provider: OpenAICompatible
) -> None:
    with pytest.raises(error) as caught:
        await embed(provider, "fine", scripted(**script))
    assert code in (None, caught.value.code)


async def test_an_answer_full_of_vectors_is_bounded(
    provider: OpenAICompatible, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (openai_compatible, http_upstream, http_client):
        monkeypatch.setattr(module, "EVENT_BYTES", 1000)

    with pytest.raises(ProviderGarbage, match="over 1000 bytes"):
        await embed(provider, "one", dimensions=1000)


async def test_whoever_does_not_wait_for_vectors_closes_the_upstreams_socket(
    provider: OpenAICompatible, upstream: Upstream
) -> None:
    embedding = asyncio.create_task(embed(provider, scripted(fault="hang")))
    await upstream.request()
    embedding.cancel()
    await asyncio.wait([embedding])

    await upstream.until(lambda: upstream.closed == 1)
