"""Make a replay log wait or lose acknowledgements."""

import asyncio
from collections.abc import Sequence

from redis.exceptions import ConnectionError as RedisConnectionError

from shared.store.replay_log import Entry, ReplayLog
from shared.store.wire.answers import AppendAnswer
from tests.support.core import Core


class Gate(ReplayLog):
    """Block a log until the test opens it, and count the requests."""

    def __init__(self, core: Core) -> None:
        super().__init__(core.client, core.keys)
        self.opened = asyncio.Event()
        self.asked = asyncio.Event()
        self.batches: list[int] = []

    async def append(self, entries: Sequence[Entry]) -> list[AppendAnswer]:
        self.batches.append(len(entries))
        self.asked.set()
        await self.opened.wait()
        return await super().append(entries)


class Forgetful(ReplayLog):
    """Lose the first acknowledgements of a log; the appended entries are there."""

    def __init__(self, core: Core, losses: int) -> None:
        super().__init__(core.client, core.keys)
        self.given: list[list[Entry]] = []
        self._losses = losses

    async def append(self, entries: Sequence[Entry]) -> list[AppendAnswer]:
        self.given.append(list(entries))
        answers = await super().append(entries)
        if self._losses > 0:
            self._losses -= 1
            raise RedisConnectionError("The connection broke before the answer came.")
        return answers
