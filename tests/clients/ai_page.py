"""A page that chats with Vercel's AI SDK, as a process of Node: js/chat.js, told what to do line by line.

Above: test_ai_sdk.py. Below: npm's `ai` in one of its versions, unchanged. Not here: expectations.
"""

import asyncio
import json
import os
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from shared.child import start_child, stop_child
from tests.clients.system import KEY
from tests.support.client import PATIENCE_S

VERSIONS = ("ai-5", "ai-6", "ai")
# Node on a busy machine, and a gateway that starts again.
_ANSWER_S = 20.0


class AiPage:
    """The page. Each call answers with the chat as it then is: `status`, `error` and `messages`."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def do(self, name: str, **options: Any) -> dict[str, Any]:
        """One command, see js/chat.js."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        stdin.write(json.dumps({"do": name, **options}).encode() + b"\n")
        async with asyncio.timeout(_ANSWER_S):
            line = await stdout.readline()
        assert line.startswith(b"{"), (line + await stdout.read()).decode()
        state: dict[str, Any] = json.loads(line)
        return state


def text_of(state: dict[str, Any]) -> str:
    """What the last message says."""
    return "".join(part["text"] for part in state["messages"][-1]["parts"] if part["type"] == "text")


@asynccontextmanager
async def ai_page(folder: Path, url: str, version: str = "ai") -> AsyncIterator[AiPage]:
    """A page of a gateway, with one of `VERSIONS`."""
    env = {**os.environ, "TAILRACE": url, "KEY": KEY, "AI": version}
    process = await start_child(["node", str(folder / "chat.js")], env=env, stdin=PIPE, output=PIPE)
    try:
        yield AiPage(process)
    finally:
        await stop_child(process, PATIENCE_S)
