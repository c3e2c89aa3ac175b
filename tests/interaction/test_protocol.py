"""Connections: how many there may be, what each may send in advance, and that each of its requests is bounded."""

import asyncio
from contextlib import suppress

import pytest

from shared.bounds import HEAD_BYTES, PIPELINED, SPARE_FILES
from shared.ports import free_port
from shared.settings import Settings
from tests.support.client import PATIENCE_S, Client
from tests.support.core import captured_logs
from tests.support.gateway import Gateway, running_gateway, until
from tests.support.processes import PYTHON, Running, as_env, at_peace
from tests.support.scribe import Desk


def head(size: int) -> bytes:
    """A request of this many bytes, of many headers."""
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
        """Each piece is read by itself: the gateway has answered somebody else in between."""
        for piece in pieces:
            writer.write(piece)
            assert (await client.get("/health/live")).status == 200

    async with asyncio.timeout(PATIENCE_S):
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


async def test_one_connection_too_many_is_broken_off_and_room_is_room_again(settings: Settings, writing: Desk) -> None:
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
async def test_a_connection_that_asks_for_nothing_is_let_go(gateway: Gateway, client: Client, said: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(said)
    assert (await client.get("/health/live")).status == 200
    await until(lambda: gateway.connections == 1)
    await gateway.server.on_tick(0)
    assert not reader.at_eof()
    await gateway.server.on_tick(0)
    async with asyncio.timeout(PATIENCE_S):
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


async def test_a_connection_that_asks_again_and_again_is_kept_whenever_it_is_looked_at(
    gateway: Gateway, client: Client
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    async with asyncio.timeout(PATIENCE_S):
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
    gateway: Gateway, client: Client, writing: Desk
) -> None:
    job_id = await writing.create()
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    async with asyncio.timeout(PATIENCE_S):
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


async def test_where_the_system_allows_few_files_there_are_fewer_connections_and_those_work(
    settings: Settings,
) -> None:
    files, port = SPARE_FILES + 20, free_port()
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

    told = [(line["event"], line["connections"]) for line in at_peace(program) if line["level"] == "warning"]
    assert told == [("gateway.few_files", 20), ("gateway.full", 20)]


async def until_answered(client: Client) -> None:
    """Ask until there is room."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with suppress(EOFError, ConnectionError):
                assert (await client.get("/health/live")).status == 200
                return


async def test_requests_in_advance_are_answered_in_order_as_long_as_they_are_few(client: Client) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    async with asyncio.timeout(PATIENCE_S):
        writer.write(head(200) * (PIPELINED + 1))
        for _ in range(PIPELINED + 1):
            assert await answer(reader) == 200
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("leaves", [True, False], ids=["who leaves", "who sends too many"])
async def test_a_reader_who_sent_requests_in_advance_is_let_go(
    gateway: Gateway, client: Client, writing: Desk, *, leaves: bool
) -> None:
    job_id = await writing.create()
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    async with asyncio.timeout(PATIENCE_S):
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
