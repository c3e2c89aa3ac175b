"""Bound connections: their number, the bytes that each may send in advance, and each of its requests."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from shared.config.settings import Settings
from shared.model.bounds import HEAD_BYTES, PIPELINED, SPARE_FILES, UNREAD_BODY_BYTES
from tests.support.client import TIMEOUT_S, Client
from tests.support.core import captured_logs
from tests.support.gateway import Gateway, running_gateway, until
from tests.support.log_writer import JobSide
from tests.support.ports import reserve_port
from tests.support.processes import PYTHON, Running, as_env, at_peace


def head(size: int) -> bytes:
    """Return a request of this many bytes, of many headers."""
    line = b"X: " + b"x" * 995 + b"\r\n"
    start = b"GET /health/live HTTP/1.1\r\nHost: tailrace.test\r\n"
    lines, rest = divmod(size - len(start) - len(b"Y: \r\n\r\n"), len(line))
    return start + line * lines + b"Y: " + b"y" * rest + b"\r\n\r\n"


async def answer(reader: asyncio.StreamReader) -> int:
    """Read one answer; its status."""
    lines = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
    (length,) = [int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:")]
    await reader.readexactly(length)
    return int(lines[0].split(b" ")[1])


async def test_each_request_of_a_connection_has_its_own_bound(client: Client) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)

    async def send(*pieces: bytes) -> None:
        """Send pieces that are read one by one: the gateway has answered another client in between."""
        for piece in pieces:
            writer.write(piece)
            assert (await client.get("/health/live")).status == 200

    async with asyncio.timeout(TIMEOUT_S):
        for _ in range(5):
            normal = head(30 * 1024)
            await send(normal[:1000], normal[1000:-2], normal[-2:])
            assert await answer(reader) == 200
        large = head(HEAD_BYTES + 2000)
        await send(large[:1000], large[1000:-2])
        assert await answer(reader) == 431
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Provide a connection that is closed at the end, within `TIMEOUT_S`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@pytest.mark.parametrize("size", [HEAD_BYTES + 500, 117 * 1024])
async def test_a_head_that_comes_at_once_has_the_same_bound(client: Client, size: int) -> None:
    async with connected(client.port) as (reader, writer):
        writer.write(head(size))
        assert await answer(reader) == 431
        await broken_off(reader)


async def test_a_long_address_is_a_part_of_the_head(client: Client) -> None:
    async with connected(client.port) as (reader, writer):
        writer.write(b"GET /health/live?%s HTTP/1.1\r\nHost: a\r\n\r\n" % (b"x" * HEAD_BYTES))
        assert await answer(reader) == 431
        await broken_off(reader)


class TestBodies:
    """Requests that are answered before their body has come, and bodies that come too slowly."""

    HEAD = b"POST /v1/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n"

    async def test_only_a_little_of_a_body_is_read_after_the_answer(self, gateway: Gateway, client: Client) -> None:
        async with connected(client.port) as (reader, writer):
            writer.write(self.HEAD + b"\r\n")
            assert await answer(reader) == 401
            writer.write(b"x" * UNREAD_BODY_BYTES)
            assert (await client.get("/health/live")).status == 200
            assert not reader.at_eof()
            writer.write(b"x")
            await broken_off(reader)

    async def test_a_body_is_not_waited_for_after_the_answer(
        self, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gateway.http.protocol.UNREAD_BODY_S", 0.0)
        async with connected(client.port) as (reader, writer):
            writer.write(self.HEAD + b"\r\n")
            assert await answer(reader) == 401
            await broken_off(reader)

    async def test_a_connection_whose_body_came_in_time_is_kept(
        self, gateway: Gateway, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gateway.http.protocol.UNREAD_BODY_S", 0.0)
        async with connected(client.port) as (reader, writer):
            writer.write(b"POST /v1/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
            assert await answer(reader) == 401
            assert (await client.get("/health/live")).status == 200  # by now the bound has passed
            writer.write(head(200))
            assert await answer(reader) == 200

    async def test_a_body_that_drips_is_answered_408(self, gateway: Gateway, client: Client) -> None:
        async with connected(client.port) as (reader, writer):
            writer.write(self.HEAD + b"Authorization: Bearer sk-alice\r\n\r\n")
            for size in (20_000, 20_000, 10):
                writer.write(b"x" * size)
                assert (await client.get("/health/live")).status == 200  # by now it was read
                assert not reader.at_eof()
                await gateway.server.on_tick(0)
            await gateway.server.on_tick(0)
            assert await answer(reader) == 408
            await broken_off(reader)


@pytest.mark.parametrize(
    ("lines", "param"),
    [
        ([], "Host"),
        (["Host: a", "Host: b"], "Host"),
        (["Host: a", "Host: a"], "Host"),
        (["Host: a", "Authorization: Bearer sk-alice", "Authorization: Bearer sk-bob"], "Authorization"),
    ],
)
async def test_a_head_that_could_be_read_in_two_ways_is_refused(client: Client, lines: list[str], param: str) -> None:
    async with connected(client.port) as (reader, writer):
        writer.write("\r\n".join(["GET /v1/models HTTP/1.1", *lines, "", ""]).encode())
        assert b" 400 " in await reader.readline()
        assert b'"param":"%s"' % param.encode() in await reader.readuntil(b"}}")


async def test_http_1_0_needs_no_host(client: Client) -> None:
    async with connected(client.port) as (reader, writer):
        writer.write(b"GET /health/live HTTP/1.0\r\n\r\n")
        assert b" 200 " in await reader.readline()


@pytest.mark.parametrize("target", ["/", "/metrics", "/v1/models", "/health/live"])
async def test_the_gateway_answers_only_the_hosts_of_the_settings(settings: Settings, target: str) -> None:
    named = settings.model_copy(update={"hosts": ("tailrace.test", "127.0.0.1", "[::1]")})
    async with running_gateway(named) as gateway:
        assert (await gateway.client.get(target)).status != 421
        for host in ("evil.test", "tailrace.test.evil.test", "[::2]:80"):
            assert (await asked_as(gateway.client.port, target, host)) == 421
        for host in ("TAILRACE.test:8080", "[::1]:8080"):
            assert (await asked_as(gateway.client.port, target, host)) != 421


async def asked_as(port: int, target: str, host: str) -> int:
    """Ask under this host; the status."""
    async with connected(port) as (reader, writer):
        writer.write(f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        status = int((await reader.readline()).split()[1])
        await reader.read()
    return status


async def test_an_address_has_only_so_many_connections(settings: Settings) -> None:
    few = settings.model_copy(update={"max_connections_per_address": 2, "proxies": ()})
    with captured_logs() as logs:
        async with running_gateway(few) as gateway:
            port = gateway.client.port
            async with connected(port):
                async with connected(port):
                    await until(lambda: gateway.connections == 2)
                    with pytest.raises((EOFError, ConnectionError)):
                        await gateway.client.get("/health/live")
                await until(lambda: gateway.connections == 1)
                assert (await gateway.client.get("/health/live")).status == 200

    (event,) = logs.named("gateway.address_full")
    assert (event["address"], event["connections"]) == ("127.0.0.1", 2)


async def test_a_proxy_has_as_many_connections_as_there_are(settings: Settings) -> None:
    few = settings.model_copy(update={"max_connections_per_address": 1, "proxies": ("127.0.0.1",)})
    async with running_gateway(few) as gateway:
        port = gateway.client.port
        async with connected(port), connected(port), connected(port):
            assert (await gateway.client.get("/health/live")).status == 200


async def test_one_connection_too_many_is_broken_off_and_room_is_room_again(
    settings: Settings, writing: JobSide
) -> None:
    job_id = await writing.create()
    with captured_logs() as logs:
        async with running_gateway(settings, connections=1) as gateway:
            for _ in range(2):
                async with gateway.client.stream("GET", f"/v1/jobs/{job_id}/events") as response:
                    await response.frame()
                    for _ in range(3):
                        with pytest.raises((EOFError, ConnectionError)):
                            await gateway.client.get("/health/live")
                    await until(lambda: gateway.connections == 1)
                await until(lambda: gateway.connections == 0)
                assert (await gateway.client.get("/health/live")).status == 200
                await until(lambda: gateway.connections == 0)

    # Once for each time, however many were turned away.
    assert len(logs.named("gateway.full")) == len(logs.named("gateway.room_again")) == 2


@pytest.mark.parametrize("said", [b"", b"GET /health/live HTT"], ids=["nothing", "half a head"])
async def test_a_connection_without_a_request_is_closed(gateway: Gateway, client: Client, said: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(said)
    assert (await client.get("/health/live")).status == 200
    await until(lambda: gateway.connections == 1)
    await gateway.server.on_tick(0)
    assert not reader.at_eof()
    await gateway.server.on_tick(0)
    async with asyncio.timeout(TIMEOUT_S):
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


async def test_a_connection_with_repeated_requests_is_kept_at_each_check(gateway: Gateway, client: Client) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    async with asyncio.timeout(TIMEOUT_S):
        for _ in range(3):
            normal = head(200)
            writer.write(normal[:100])
            assert (await client.get("/health/live")).status == 200  # by now it was read
            await gateway.server.on_tick(0)
            writer.write(normal[100:])
            assert await answer(reader) == 200
        writer.close()
        await writer.wait_closed()


async def test_a_reader_is_kept_though_it_has_begun_to_ask_for_more(
    gateway: Gateway, client: Client, writing: JobSide
) -> None:
    job_id = await writing.create()
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    async with asyncio.timeout(TIMEOUT_S):
        writer.write(b"GET /v1/jobs/%s/events HTTP/1.1\r\n" % job_id.encode())
        writer.write(b"Host: tailrace.test\r\nAuthorization: Bearer sk-alice\r\n\r\n")
        await reader.readuntil(b"id: 0-1\n\n")
        writer.write(b"GET /health/live HTT")
        assert (await client.get("/health/live")).status == 200
        for _ in range(3):
            await gateway.server.on_tick(0)
        assert (await client.get("/health/live")).status == 200
        assert len(gateway.services.hub.readers) == 1
        writer.close()
    await until(lambda: gateway.connections == 0 and not gateway.services.hub.readers)


async def test_a_low_limit_on_open_files_allows_fewer_connections_and_those_work(
    settings: Settings,
) -> None:
    files, port = SPARE_FILES + 20, reserve_port()
    argv = ("sh", "-c", f'ulimit -Sn 100; ulimit -Hn {files}; exec "$@"', "sh", *PYTHON, "gateway", "serve")
    program = Running("gateway", argv, as_env(settings.model_copy(update={"port": port})))
    held: list[asyncio.StreamWriter] = []
    try:
        await program.start()
        for _ in range(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            held.append(writer)
            writer.write(head(200))
            assert await answer(reader) == 200
        with pytest.raises((EOFError, ConnectionError)):
            await Client(port).get("/health/live")
        held.pop().close()
        await until_answered(Client(port))
    finally:
        for writer in held:
            writer.close()
        await program.stop()

    reported = [(line["event"], line["connections"]) for line in at_peace(program) if line["level"] == "warning"]
    assert reported == [("gateway.few_files", 20), ("gateway.full", 20)]


async def until_answered(client: Client) -> None:
    """Ask until there is room."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            with suppress(EOFError, ConnectionError):
                assert (await client.get("/health/live")).status == 200
                return


async def test_requests_in_advance_are_answered_in_order_as_long_as_they_are_few(client: Client) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    async with asyncio.timeout(TIMEOUT_S):
        writer.write(head(200) * (PIPELINED + 1))
        for _ in range(PIPELINED + 1):
            assert await answer(reader) == 200
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("leaves", [True, False], ids=["who leaves", "who sends too many"])
async def test_a_reader_that_pipelined_requests_is_released(
    gateway: Gateway, client: Client, writing: JobSide, *, leaves: bool
) -> None:
    job_id = await writing.create()
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    async with asyncio.timeout(TIMEOUT_S):
        writer.write(head(200))
        writer.write(b"GET /v1/jobs/%s/events HTTP/1.1\r\n" % job_id.encode())
        writer.write(b"Host: tailrace.test\r\nAuthorization: Bearer sk-alice\r\n\r\n")
        assert await answer(reader) == 200
        await reader.readuntil(b"id: 0-1\n\n")
        writer.write(head(100) * (1 if leaves else PIPELINED + 1))
        assert (await client.get("/health/live")).status == 200  # by now they were read
        if not leaves:
            await broken_off(reader)
        writer.close()
    await until(lambda: gateway.connections == 0 and not gateway.services.hub.readers)


async def broken_off(reader: asyncio.StreamReader) -> None:
    """Read to the end, which may be a reset."""
    with suppress(ConnectionError):
        while await reader.read(1024):
            pass
