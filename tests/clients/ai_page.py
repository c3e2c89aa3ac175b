"""A page that chats with Vercel's AI SDK, as a process of Node: js/chat.js takes one command a line.

It drives npm's `ai` in one of its versions, unchanged. Not here: expectations (test_ai_sdk.py).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.clients.node import Program, running_program

VERSIONS = ("ai-5", "ai-6", "ai")


class AiPage:
    """The page. Each call answers with the chat as it then is: `status`, `error` and `messages`."""

    def __init__(self, program: Program) -> None:
        self.do = program.do
        """One command, see js/chat.js."""


def text_of(state: dict[str, Any]) -> str:
    """Return the text of the last message."""
    return "".join(part["text"] for part in state["messages"][-1]["parts"] if part["type"] == "text")


@asynccontextmanager
async def ai_page(folder: Path, url: str, version: str = "ai") -> AsyncIterator[AiPage]:
    """Open a page of a gateway, with one of `VERSIONS`."""
    async with running_program(folder, "chat.js", url, AI=version) as program:
        yield AiPage(program)
