"""A program of `js/` in a process of Node: it gets one command a line, and answers each line with one of its own.

ai_page.py and openai_js.py know the commands of their programs. Not here: expectations.
"""

import asyncio
import json
import os
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from shared.process.child import start_child, stop_child
from tests.clients.system import KEY
from tests.support.client import TIMEOUT_S

# Node on a busy machine, and a gateway that starts again.
_ANSWER_S = 20.0


class Program:
    """The program, which runs."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._said = b""

    async def do(self, name: str, **options: Any) -> dict[str, Any]:
        """Send one command; return its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": name, **options}).encode() + b"\n")
        async with asyncio.timeout(_ANSWER_S):
            line = await self._line()
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def _line(self) -> bytes:
        """Return the next line, however long it is."""
        stdout = self._process.stdout
        assert stdout is not None
        while b"\n" not in self._said:
            said = await stdout.read(256 * 1024)
            assert said, self._said.decode()
            self._said += said
        line, _, self._said = self._said.partition(b"\n")
        assert line.startswith(b"{"), (line + self._said + await stdout.read()).decode()
        return line


@asynccontextmanager
async def running_program(folder: Path, name: str, url: str, **env: str) -> AsyncIterator[Program]:
    """Start a program of this folder, for a gateway; it is given the address, the key and this environment."""
    reported = {**os.environ, "TAILRACE": url, "KEY": KEY, **env}
    process = await start_child(["node", str(folder / name)], env=reported, stdin=PIPE, output=PIPE)
    try:
        yield Program(process)
    finally:
        await stop_child(process, TIMEOUT_S)
