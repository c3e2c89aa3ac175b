"""A gateway in the test's own process and event loop: the real parts, a real uvicorn and a real socket."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import uvicorn

from gateway.api.services import Services
from gateway.app import running
from gateway.server import listen, make_server
from gateway.specs.kinds import ADMITTED_KINDS, AdmittedKinds
from shared.config.settings import Settings
from shared.model.bounds import CONNECTIONS
from tests.support.client import TIMEOUT_S, Client


@dataclass
class Gateway:
    """A running gateway and a client of it with Alice's key."""

    services: Services
    server: uvicorn.Server
    client: Client

    @property
    def connections(self) -> int:
        """How many sockets its clients have."""
        return len(self.server.server_state.connections)


async def until(so: Callable[[], bool]) -> None:
    """Wait for a condition without an event: check it repeatedly, for at most `TIMEOUT_S`."""
    async with asyncio.timeout(TIMEOUT_S):
        while not so():  # noqa: ASYNC110  # if there were an event, one would wait for it
            await asyncio.sleep(0.001)


@asynccontextmanager
async def running_gateway(
    settings: Settings, *, connections: int = CONNECTIONS, kinds: AdmittedKinds = ADMITTED_KINDS
) -> AsyncIterator[Gateway]:
    """Run a gateway on a free port. Its readers are cut off at the end, and must release everything."""
    with contextlib.closing(listen("127.0.0.1", 0, settings.send_timeout_s)) as listener:
        port = listener.getsockname()[1]
        async with running(settings, kinds) as services:
            server = make_server(services, lambda: None, connections=connections)
            server.config.load()
            server.lifespan = server.config.lifespan_class(server.config)
            # Not `server.serve`: its loop and its shutdown would cost each test a third of a second.
            await server.startup(sockets=[listener])
            try:
                yield Gateway(services, server, Client(port))
            finally:
                await _stop(server)
                assert services.hub.readers == []


async def _stop(server: uvicorn.Server) -> None:
    for each in server.servers:
        each.close()
    for connection in list(server.server_state.connections):
        connection.transport.abort()
    if tasks := list(server.server_state.tasks):
        _, slow = await asyncio.wait(tasks, timeout=TIMEOUT_S)
        assert not slow, slow
