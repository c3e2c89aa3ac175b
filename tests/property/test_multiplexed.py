"""Compare the shared connection with a plain client, through a forwarder that disturbs it, on the real server.

Callers are cancelled, connections are cut or killed, and answers come late, twice or never. Each caller gets its own
answer or an error, and afterwards the client works.
"""

import asyncio
import contextlib
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from shared.store.client import REDIS_DOWN, drop_idle_connections, open_client
from tests.support.core import Core
from tests.support.forwarder import Forwarder, forwarding
from tests.support.server_steps import ServerSteps, run_steps

KEYS = 40
TIMEOUT_S = 0.3
COUNTS = st.integers(1, 6)


class Disturbances(ServerSteps):
    """Read keys that differ in their values, while the connection is disturbed."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, asyncio.Task[Any]]] = []

    @initialize()
    def open(self) -> None:
        self.core: Core = self.open_core()
        self.forwarder: Forwarder = self.run(self.stack.enter_async_context(forwarding(self.redis_url)))
        address = f"{self.forwarder.url}?client_name={self.core.keys.prefix}"
        self.client = self.run(self.stack.enter_async_context(open_client(address, command_timeout_s=TIMEOUT_S)))
        self.plain = self.core.client
        self.names = [self.core.keys.job(f"job_{number}").record for number in range(KEYS)]
        for each in self.names:
            self.run(self.plain.set(each, each, px=60_000))

    @rule(count=COUNTS, first=st.integers(0, KEYS - 1))
    def read(self, count: int, first: int) -> None:
        for number in range(first, first + count):
            name = self.names[number % KEYS]
            self.calls.append((name, self.loop.create_task(self.read_one(name))))

    async def read_one(self, name: str) -> Any:
        try:
            return await self.client.get(name)
        except REDIS_DOWN as error:
            return error

    @rule(place=st.integers(0, 30))
    def cancel(self, place: int) -> None:
        if self.calls:
            self.calls[place % len(self.calls)][1].cancel()

    @rule(turns=COUNTS)
    def turn(self, turns: int) -> None:
        async def turn() -> None:
            for _ in range(turns):
                await asyncio.sleep(0)

        self.run(turn())

    @rule()
    def settle(self) -> None:
        if self.calls:
            self.run(asyncio.wait([call for _, call in self.calls]))
        self.check()

    # Disturbances.

    @rule()
    def cut(self) -> None:
        self.forwarder.close()

    @rule()
    def kill(self) -> None:
        async def kill() -> None:
            for each in await self.plain.client_list():
                if each["name"] == self.core.keys.prefix:
                    await self.plain.client_kill_filter(_id=each["id"])

        self.run(kill())

    @rule()
    def replace(self) -> None:
        self.run(drop_idle_connections(self.client))

    @rule()
    def hold(self) -> None:
        self.forwarder.hold(b"")

    @rule()
    def release(self) -> None:
        self.forwarder.release()

    @rule()
    def lose(self) -> None:
        self.forwarder.lose_next()

    @rule()
    def repeat(self) -> None:
        self.forwarder.repeat_last()

    # Checks.

    def check(self) -> None:
        """Compare each call that has ended with the plain client."""
        ended = [(name, call) for name, call in self.calls if call.done()]
        self.calls = [(name, call) for name, call in self.calls if not call.done()]
        for name, call in ended:
            with contextlib.suppress(asyncio.CancelledError):
                answer = call.result()
                assert isinstance(answer, REDIS_DOWN) or answer == self.run(self.plain.get(name)) == name.encode()

    def teardown(self) -> None:
        if hasattr(self, "forwarder"):
            self.forwarder.release()
            self.settle()
            # Its caller may be cancelled, and the attempt to connect goes on: a cut would then be this attempt's end.
            self.run(self.read_one(self.names[0]))
            self.forwarder.close()
            assert self.run(self.client.get(self.names[0])) == self.names[0].encode()
        super().teardown()


def test_no_disturbance_pairs_a_command_with_the_answer_of_another(redis_url: str) -> None:
    run_steps(Disturbances, redis_url, examples=60, steps=25)
