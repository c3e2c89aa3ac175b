"""Test the listening socket of a gateway, its drain, and the end that a dead part brings.

With real signals and readers: tests/interaction/test_drain.py.
"""

import asyncio
import socket
import sys
from contextlib import closing
from types import SimpleNamespace
from typing import Any, cast

import pytest
import uvicorn

from gateway.api.services import Services
from gateway.server import drain, end_with_parts, listen, make_server
from shared.config.settings import Settings
from shared.model.bounds import LISTEN_BACKLOG, SEND_BUFFER_BYTES
from shared.model.errors import StartupError
from shared.model.metrics import Metrics
from shared.process.clock import SystemClock

HERE = "127.0.0.1"
ENOUGH_S = 5.0


class Reader:
    """A reader that notes why it was broken off, and then leaves its hub."""

    def __init__(self, hub: "Hub", *, resumable: bool) -> None:
        self.resumable = resumable
        self.broken: str | None = None
        self._hub = hub

    def break_off(self, reason: str) -> None:
        self.broken = reason
        self._hub.leave(self)


class Hub:
    """The readers of a gateway."""

    def __init__(self, *resumable: bool) -> None:
        self.all = self.readers = [Reader(self, resumable=each) for each in resumable]
        self._empty = asyncio.Event()

    def leave(self, reader: Reader) -> None:
        self.readers = [each for each in self.readers if each is not reader]
        if not self.readers:
            self._empty.set()

    async def emptied(self) -> None:
        await self._empty.wait()


class Gateway:
    """The parts that a drain needs. Its signals are `stop` and `now`."""

    def __init__(self, hub: Hub, **times: float) -> None:
        settings = Settings(drain_s=times.get("drain_s", 60.0), drain_delay_s=times.get("drain_delay_s", 0.0))
        self.services = cast(Services, SimpleNamespace(settings=settings, hub=hub, leaving=False, draining=False))
        self.server = uvicorn.Server(uvicorn.Config(cast(Any, None), log_config=None))
        self.stop, self.now = asyncio.Event(), asyncio.Event()

    def drain(self) -> "asyncio.Task[None]":
        return asyncio.create_task(drain(self.services, self.server, self.stop, self.now))

    async def drained(self) -> None:
        async with asyncio.timeout(ENOUGH_S):
            await self.drain()


async def rounds(count: int = 5) -> None:
    """Let the other tasks run until they wait."""
    for _ in range(count):
        await asyncio.sleep(0)


class TestListen:
    def test_a_socket_listens_with_small_buffers_and_a_bound_for_readers_that_stop(self) -> None:
        with closing(listen(HERE, 0, 2.5)) as listener:
            assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
            assert (
                SEND_BUFFER_BYTES <= listener.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= 2 * SEND_BUFFER_BYTES
            )
            assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            assert listener.getblocking() is False
            if sys.platform == "linux":
                assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 2_500

    def test_sockets_that_share_a_port_are_bound_and_do_not_listen_yet(self) -> None:
        with closing(listen(HERE, 0, 1.0, share=True)) as first:
            port = first.getsockname()[1]
            with closing(listen(HERE, port, 1.0, share=True)) as second:
                assert second.getsockname() == first.getsockname()
                assert first.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 0

    def test_a_port_that_is_in_use_is_named_with_the_setting(self) -> None:
        with closing(listen(HERE, 0, 1.0)) as first:
            port = first.getsockname()[1]
            with pytest.raises(StartupError) as refused:
                listen(HERE, port, 1.0)

        assert str(refused.value) == f"Port {port} on {HERE} is in use; set TAILRACE_PORT to another one."

    def test_an_address_of_another_machine_is_refused_with_the_reason(self) -> None:
        with pytest.raises(StartupError, match=r"^The gateway can't listen on 192\.0\.2\.1, port 0: .+\.$"):
            listen("192.0.2.1", 0, 1.0)


class TestDrain:
    async def test_a_signal_breaks_off_readers_that_can_return_and_waits_for_the_others(self) -> None:
        hub = Hub(True, False, True)
        gateway = Gateway(hub)
        gateway.stop.set()
        draining = gateway.drain()
        await rounds()

        assert [reader.broken is not None for reader in hub.all] == [True, False, True]
        assert (gateway.services.leaving, gateway.services.draining, gateway.server.should_exit) == (True, True, False)

        hub.leave(hub.all[1])
        await asyncio.wait_for(draining, ENOUGH_S)
        assert hub.all[1].broken is None
        assert gateway.server.should_exit

    async def test_a_second_signal_breaks_off_the_others_at_once(self) -> None:
        hub = Hub(False)
        gateway = Gateway(hub)
        gateway.stop.set()
        gateway.now.set()

        await gateway.drained()

        assert hub.all[0].broken == "This gateway is shutting down."
        assert gateway.server.should_exit

    async def test_the_others_have_a_bounded_time(self) -> None:
        hub = Hub(False)
        gateway = Gateway(hub, drain_s=0.01)
        gateway.stop.set()

        await gateway.drained()

        assert hub.all[0].broken is not None
        assert gateway.server.should_exit

    async def test_during_the_delay_the_gateway_still_serves_and_a_second_signal_ends_it(self) -> None:
        hub = Hub(True)
        gateway = Gateway(hub, drain_delay_s=60.0)
        gateway.stop.set()
        draining = gateway.drain()
        await rounds()

        assert (gateway.services.leaving, gateway.services.draining) == (True, False)
        assert hub.all[0].broken is None

        gateway.now.set()
        await asyncio.wait_for(draining, ENOUGH_S)
        assert hub.all[0].broken is not None

    async def test_without_a_signal_nothing_happens(self) -> None:
        hub = Hub(True)
        gateway = Gateway(hub)
        draining = gateway.drain()
        await rounds()

        assert (hub.all[0].broken, gateway.services.leaving, gateway.server.should_exit) == (None, False, False)
        draining.cancel()


class TestEndWithParts:
    async def test_a_part_that_has_died_ends_the_process(self) -> None:
        async def dies() -> None:
            raise ZeroDivisionError

        alive = asyncio.create_task(asyncio.Event().wait())
        gateway = Gateway(Hub())
        gateway.services.tasks = cast(Any, [alive, asyncio.create_task(dies())])

        async with asyncio.timeout(ENOUGH_S):
            await end_with_parts(gateway.services, gateway.server)

        assert gateway.server.should_exit
        alive.cancel()

    async def test_parts_that_run_keep_it_running(self) -> None:
        alive = asyncio.create_task(asyncio.Event().wait())
        gateway = Gateway(Hub())
        gateway.services.tasks = cast(Any, [alive])
        watching = asyncio.create_task(end_with_parts(gateway.services, gateway.server))
        await rounds()

        assert not gateway.server.should_exit
        watching.cancel()
        alive.cancel()


def test_the_server_leaves_signals_to_the_gateway_and_sends_no_header_of_its_own() -> None:
    services = SimpleNamespace(settings=Settings(), clock=SystemClock(), metrics=Metrics())

    config = make_server(cast(Services, services), lambda: None).config

    assert (config.backlog, config.server_header, config.proxy_headers) == (LISTEN_BACKLOG, False, False)
    assert config.timeout_keep_alive > 120  # longer than Caddy holds a connection
