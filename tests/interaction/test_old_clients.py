"""Clients and proxies of the old kind: HTTP/1.0, and connections of which one side is closed before the answer."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.server import make_server
from shared.config.settings import Settings
from tests.support.client import TIMEOUT_S
from tests.support.gateway import Gateway, until
from tests.support.log_writer import PROMPT, JobSide

CHAT, JOBS = "/v1/chat/completions", "/v1/jobs"
BODY: dict[str, Any] = {"model": "scripted", "messages": PROMPT}
STREAM = {**BODY, "stream": True}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """No heartbeat of the timer comes while a test lasts."""
    return settings.model_copy(update={"heartbeat_s": 600.0})


class Raw:
    """A connection that shows every byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def send(self, method: str, target: str, body: Any = None, *, version: str = "1.1") -> None:
        payload = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {target} HTTP/{version}\r\nHost: 127.0.0.1\r\nAuthorization: Bearer sk-alice\r\n"
        self.writer.write(f"{head}Content-Length: {len(payload)}\r\n\r\n".encode() + payload)
        await self.writer.drain()

    async def until(self, mark: bytes) -> bytes:
        async with asyncio.timeout(TIMEOUT_S):
            return await self._reader.readuntil(mark)

    async def rest(self) -> bytes:
        async with asyncio.timeout(TIMEOUT_S):
            return await self._reader.read()


@asynccontextmanager
async def connected(gateway: Gateway) -> AsyncIterator[Raw]:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.client.port)
    try:
        yield Raw(reader, writer)
    finally:
        writer.close()


# HTTP/1.0.


async def test_a_stream_for_http_1_0_has_no_chunks_and_ends_with_the_connection(
    gateway: Gateway, writing: JobSide
) -> None:
    log_writer = await writing.started()
    await log_writer.say("Hello", " there")
    async with connected(gateway) as raw:
        await raw.send("GET", f"{JOBS}/{log_writer.job_id}/events", version="1.0")
        head = await raw.until(b"\r\n\r\n")
        await log_writer.complete()
        assert await raw.rest() == await writing.logged(log_writer.job_id)

    assert b"transfer-encoding" not in head
    assert b"connection: close" in head


async def test_a_stream_for_http_1_0_that_is_broken_ends_in_a_reset(gateway: Gateway, writing: JobSide) -> None:
    log_writer = await writing.started()
    async with connected(gateway) as raw:
        await raw.send("GET", f"{JOBS}/{log_writer.job_id}/events", version="1.0")
        await raw.until(b"event: started")
        (reader,) = gateway.services.hub.readers
        reader.break_off("A test wants it so.")
        with pytest.raises(ConnectionResetError):
            await raw.rest()


async def test_whole_answers_for_http_1_0_are_as_ever(gateway: Gateway) -> None:
    async with connected(gateway) as raw:
        await raw.send("GET", "/health/live", version="1.0")
        head, body = (await raw.rest()).split(b"\r\n\r\n")

    assert f"content-length: {len(body)}".encode() in head


# Connections that are closed on one side.


async def test_a_caller_that_sends_nothing_more_gets_its_answer(gateway: Gateway, writing: JobSide) -> None:
    async with connected(gateway) as raw:
        await raw.send("POST", CHAT, BODY)
        raw.writer.write_eof()
        log_writer = await writing.take()
        await log_writer.say("Hello")
        await log_writer.complete()
        answer = (await raw.rest()).replace(CONTINUE, b"")

    head, body = answer.split(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert json.loads(body)["choices"][0]["message"]["content"] == "Hello"


async def test_a_reader_that_sends_nothing_more_gets_the_whole_stream(gateway: Gateway, writing: JobSide) -> None:
    async with connected(gateway) as raw:
        await raw.send("POST", CHAT, STREAM)
        log_writer = await writing.take()
        await log_writer.say("Hello")
        await raw.until(b"Hello")
        raw.writer.write_eof()
        # The gateway writes to find out whether the client has left: it has not.
        await raw.until(b": hb\n")
        await raw.until(b": hb\n")
        await log_writer.complete()
        assert b"data: [DONE]\n\n" in await raw.rest()


async def test_a_job_that_is_submitted_by_a_caller_that_sends_nothing_more_is_accepted(gateway: Gateway) -> None:
    async with connected(gateway) as raw:
        await raw.send("POST", JOBS, BODY)
        raw.writer.write_eof()
        answer = (await raw.rest()).replace(CONTINUE, b"")

    assert answer.startswith(b"HTTP/1.1 202 ")


@pytest.mark.parametrize("body", [BODY, STREAM], ids=["whole", "streamed"])
async def test_a_caller_that_has_left_is_found(gateway: Gateway, writing: JobSide, body: dict[str, Any]) -> None:
    async with connected(gateway) as raw:
        await raw.send("POST", CHAT, body)
        log_writer = await writing.take()
        if body is STREAM:
            await log_writer.say("Hello")
            await raw.until(b"\n\n")
        assert gateway.services.hub.readers
    await until(lambda: not gateway.services.hub.readers)


async def test_a_caller_by_http_1_0_that_has_left_is_found_too(gateway: Gateway, writing: JobSide) -> None:
    """By default nginx speaks HTTP/1.0, and closes when its own client has left."""
    async with connected(gateway) as raw:
        await raw.send("POST", CHAT, BODY, version="1.0")
        await writing.take()
    await until(lambda: not gateway.services.hub.readers)


async def test_an_idle_connection_whose_client_closes_is_closed(gateway: Gateway) -> None:
    async with connected(gateway) as raw:
        await raw.send("GET", "/health/live")
        await raw.until(b"}")
        raw.writer.write_eof()
        assert await raw.rest() == b""


async def test_idle_connections_outlast_those_of_common_proxies(gateway: Gateway) -> None:
    """nginx keeps one for 60 s and Caddy for 120 s; many a load balancer for 60 or 75 s."""
    config = make_server(gateway.services, lambda: None).config

    assert config.timeout_keep_alive > 120
