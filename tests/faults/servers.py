"""A Redis server of the fleet, and how each fault is done to it."""

import asyncio
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.process.embedded_valkey import EmbeddedValkey
from tests.faults.schedule import AHEAD_S, Fault
from tests.support.clocks import FakedClock

_PAUSE_MS = 200
_UNSYNCED_S = 1.0
_TRY_S = 0.1
Command = tuple[str | int, ...]
# Commands that make a server refuse, and commands that make it serve again.
_REFUSING: dict[str, tuple[Sequence[Command], Sequence[Command]]] = {
    "demote": ([("REPLICAOF", "127.0.0.1", 1)], [("REPLICAOF", "NO", "ONE")]),
    "deny": ([("ACL", "SETUSER", "default", "-fcall")], [("ACL", "SETUSER", "default", "+fcall")]),
}


class Server:
    """A Valkey with AOF in a folder of its own."""

    def __init__(self, valkey: EmbeddedValkey, folder: Path, clock: FakedClock | None = None) -> None:
        """Its clock can be moved if it has one of its own."""
        self._valkey = valkey
        self._clock = clock
        self._folder = folder

    @property
    def url(self) -> str:
        """Its address."""
        return self._valkey.url

    async def suffer(self, fault: Fault, forgot_at: list[float]) -> None:
        """Let a fault happen, and let the server come back.

        Append to `forgot_at` the times (monotonic seconds) at which the server may have lost what it acknowledged.
        """
        self._forgot_at = forgot_at
        if fault.kind == "freeze":
            assert self._valkey.pid is not None
            os.kill(self._valkey.pid, signal.SIGSTOP)
            await asyncio.sleep(fault.lasts_s)
            os.kill(self._valkey.pid, signal.SIGCONT)
        elif fault.kind == "flush":
            # A flush without an answer is sent again: each of them empties the server.
            await self._command([("FLUSHALL",)], before_each=self._forgets)
            self._forgets()
            await asyncio.sleep(fault.lasts_s)
        elif fault.kind in AHEAD_S:
            await self._move_clock(AHEAD_S[fault.kind], fault.lasts_s)
        elif fault.kind == "slow":
            await self._slow_down(fault.lasts_s)
        elif fault.kind == "busy":
            await self._run_a_long_script(fault.lasts_s)
        elif fault.kind in _REFUSING:
            refuse, serve = _REFUSING[fault.kind]
            await self._command(refuse)
            await asyncio.sleep(fault.lasts_s)
            await self._command(serve)
        else:
            await self._end(fault.kind)
            await asyncio.sleep(fault.lasts_s)
            await self._valkey.start()

    async def _move_clock(self, ahead_s: int, lasts_s: float) -> None:
        assert self._clock is not None
        self._clock.set_s(ahead_s)
        await asyncio.sleep(lasts_s)
        self._clock.set_s(0)

    async def _slow_down(self, lasts_s: float) -> None:
        # Killing connections may hit this one too.
        async with self._admin() as client:
            for _ in range(int(lasts_s * 1000 / _PAUSE_MS / 2)):
                with suppress(RedisError, OSError):
                    await client.execute_command("CLIENT", "PAUSE", _PAUSE_MS, "ALL")
                await asyncio.sleep(2 * _PAUSE_MS / 1000)

    async def _run_a_long_script(self, lasts_s: float) -> None:
        await self._command([("CONFIG", "SET", "busy-reply-threshold", 1)])
        async with Redis.from_url(self.url) as client:
            script = asyncio.create_task(client.execute_command("EVAL", "while true do end", 0))
            await asyncio.sleep(lasts_s)
            await self._command([("SCRIPT", "KILL")])
            await asyncio.gather(script, return_exceptions=True)

    def _forgets(self) -> None:
        self._forgot_at.append(time.monotonic())

    async def _command(self, commands: Sequence[Command], before_each: Callable[[], None] = lambda: None) -> None:
        """Give these commands, however often connections are cut meanwhile."""
        for command in commands:
            while True:
                before_each()
                try:
                    async with self._admin() as client:
                        await client.execute_command(*command)
                    break
                except (RedisError, OSError) as error:
                    if "NOTBUSY" in str(error):
                        break
                    await asyncio.sleep(_TRY_S)

    async def _end(self, kind: str) -> None:
        if kind == "stop":
            await self._valkey.stop()
            return
        file, synced = self._aof, self._aof.stat().st_size
        if kind == "crash":
            await asyncio.sleep(_UNSYNCED_S)
        self._forgets()
        self._valkey.kill()
        await self._valkey.died()
        if kind == "crash" and file == self._aof:  # else it has just been rewritten
            os.truncate(file, synced)
        elif kind == "amnesia":
            shutil.rmtree(self._folder / "appendonlydir")

    @property
    def _aof(self) -> Path:
        """Return the file that Valkey appends to just now."""
        return max(self._folder.glob("appendonlydir/*.incr.aof"), key=lambda file: file.stat().st_mtime)

    async def cut(self, kind: str, chance: random.Random) -> None:
        """Cut connections: `cut one`, or all of a type."""
        with suppress(RedisError, OSError):  # it may be away just now
            async with self._admin() as client:
                if kind == "cut one":
                    ids = [each["id"] for each in await client.client_list()]
                    await client.execute_command("CLIENT", "KILL", "ID", chance.choice(ids), "SKIPME", "yes")
                else:
                    await client.execute_command("CLIENT", "KILL", "TYPE", kind.removeprefix("cut "), "SKIPME", "yes")

    def _admin(self) -> Any:
        return Redis.from_url(self.url, socket_timeout=2.0, socket_connect_timeout=2.0)
