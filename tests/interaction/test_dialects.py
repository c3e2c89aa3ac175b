"""Read one job in four dialects at once while its worker is killed: each reader has the exact text, or an error.

The parts are real processes. Not here: each dialect byte by byte (golden tests).
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest

from shared.config.settings import Settings
from shared.model.events import decode_frame
from shared.model.routes import Continuation
from tests.support.client import Client, Response
from tests.support.controlled_provider import MODEL, controlled_upstream
from tests.support.processes import Processes
from tests.support.system import proven, surviving, text_of

ASKED = {
    "model": MODEL,
    "id": "c1",
    "messages": [{"id": "u1", "role": "user", "parts": [{"type": "text", "text": "?"}]}],
}
BEGUN = ("Half of ", "it")
ANSWER = ("It is ", "another ", "one.")


@dataclass(frozen=True)
class Dialect:
    """The facts about a dialect that a reader needs. `completes` are the words of a complete answer, and no others."""

    text: Callable[[list[bytes]], str]
    end: bytes
    """How the last frame of a complete answer begins."""
    completes: tuple[bytes, ...]
    error: Callable[[bytes], bool]
    """Whether a frame is this dialect's error."""


def data_of(frame: bytes) -> Any:
    """Return the text of a frame; nothing for the mark that ends some streams."""
    (line,) = (line for line in frame.split(b"\n") if line.startswith(b"data: "))
    data = line.removeprefix(b"data: ")
    return {} if data == b"[DONE]" else json.loads(data)


def native_text(frames: list[bytes]) -> str:
    """By the rule of rollbacks."""
    return text_of(surviving([decode_frame(frame) for frame in frames]))


def chat_text(frames: list[bytes]) -> str:
    choices = (choice for frame in frames for choice in data_of(frame).get("choices", []))
    return "".join(choice["delta"].get("content", "") for choice in choices)


def typed_text(type_: str) -> Callable[[list[bytes]], str]:
    """Of a dialect in which each frame has a type."""
    return lambda frames: "".join(data["delta"] for data in map(data_of, frames) if data.get("type") == type_)


NATIVE = Dialect(native_text, b"event: completed\n", (), lambda _: False)
CHAT = Dialect(
    chat_text,
    b"data: [DONE]",
    (b"[DONE]", b'"finish_reason":"'),
    lambda frame: data_of(frame).get("error", {}).get("code") == "rollback",
)
RESPONSES = Dialect(
    typed_text("response.output_text.delta"),
    b"event: response.completed\n",
    (b"response.completed", b'"status":"completed"', b".done"),
    lambda frame: (data_of(frame)["type"], data_of(frame).get("code")) == ("error", "rollback"),
)
UI = Dialect(
    typed_text("text-delta"),
    b"data: [DONE]",
    (b"[DONE]", b'"finish"', b'"finish-step"', b'"text-end"'),
    lambda frame: data_of(frame).get("type") == "error",
)


@dataclass
class Reader:
    """One reader, and the frames that it got."""

    dialect: Dialect
    response: Response
    frames: list[bytes] = field(default_factory=list)

    @property
    def text(self) -> str:
        """Return the text that the reader would show."""
        return self.dialect.text(self.frames)

    async def until_shown(self, text: str) -> None:
        """Read until it shows this."""
        while self.text != text:
            frame = await self.response.frame()
            assert frame, "the stream ended"
            self.frames.append(frame)

    async def to_its_end(self) -> None:
        """Read the rest of the frames."""
        while frame := await self.response.frame():
            self.frames.append(frame)

    def is_complete_with(self, text: str) -> bool:
        """Return whether it has all of it, and knows."""
        return (self.text, self.response.complete) == (text, True) and self.frames[-1].startswith(self.dialect.end)

    def was_told_of_the_loss(self) -> bool:
        """Return whether it ended with its dialect's error, and not a word says that it is complete."""
        said = b"".join(self.frames)
        return self.dialect.error(self.frames[-1]) and not any(word in said for word in self.dialect.completes)


@asynccontextmanager
async def reading_in_all_dialects(client: Client) -> AsyncIterator[tuple[Reader, list[Reader]]]:
    """Start a new answer in a chat, and its four readers with their headers: the native one, then the others."""
    async with AsyncExitStack() as stack:
        ui = await stack.enter_async_context(client.calling("/api/chat", ASKED))
        await ui.read_head()
        job = ui.headers["x-tailrace-job"]
        native, chat, responses = [
            await stack.enter_async_context(client.stream("GET", target))
            for target in (
                f"/v1/jobs/{job}/events",
                f"/v1/chat/completions/{job}?stream=true",
                f"/v1/responses/{job.replace('job_', 'resp_')}?stream=true",
            )
        ]
        assert [each.status for each in (ui, native, chat, responses)] == [200] * 4
        yield Reader(NATIVE, native), [Reader(CHAT, chat), Reader(RESPONSES, responses), Reader(UI, ui)]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Set a short lease; headers that go out before the first word show that a reader is there."""
    return settings.model_copy(update={"lease_s": 0.6, "headers_hold_s": 0.02})


REST = (" was ", "said, ", "and ", "no ", "more.")


async def test_a_continued_sentence_is_complete_and_repeats_nothing_in_each_dialect(processes: Processes) -> None:
    async with controlled_upstream() as (provider, url):
        how = {"upstream_url": url, "upstream_continuation": Continuation.CONTINUE_FINAL_MESSAGE}
        gateway, doomed = await asyncio.gather(processes.gateway(), processes.worker(**how))
        async with reading_in_all_dialects(Client(urlsplit(gateway.url).port or 0)) as (native, others):
            (await provider.call()).say(*BEGUN)
            for reader in (native, *others):
                await reader.until_shown("".join(BEGUN))
            await doomed.crash()
            await processes.worker(**how)
            again = await provider.call(1)
            again.say(*REST)
            again.end()
            await asyncio.gather(*(reader.to_its_end() for reader in (native, *others)))

    assert again.request["messages"][-1] == {"role": "assistant", "content": "".join(BEGUN)}
    for reader in (native, *others):
        assert reader.is_complete_with("".join((*BEGUN, *REST))), reader.frames
    story = proven([decode_frame(frame) for frame in native.frames])
    assert story.types == ["queued", "started", *["delta"] * 2, "started", *["delta"] * 5, "completed"]


@pytest.mark.parametrize("begun", [(), BEGUN], ids=["before the first word", "in mid-answer"])
async def test_a_killed_worker_is_a_rollback_natively_and_an_error_or_unseen_in_other_dialects(
    processes: Processes, begun: tuple[str, ...]
) -> None:
    async with controlled_upstream() as (provider, upstream_url):
        gateway, doomed = await asyncio.gather(processes.gateway(), processes.worker(upstream_url=upstream_url))
        async with reading_in_all_dialects(Client(urlsplit(gateway.url).port or 0)) as (native, others):
            (await provider.call()).say(*begun)
            for reader in (native, *others):
                await reader.until_shown("".join(begun))
            await doomed.crash()
            await processes.worker(upstream_url=upstream_url)
            again = await provider.call(1)
            again.say(*ANSWER)
            again.end()
            await asyncio.gather(*(reader.to_its_end() for reader in (native, *others)))

    assert native.is_complete_with("".join(ANSWER))
    assert ("rollback" in proven([decode_frame(frame) for frame in native.frames]).types) == bool(begun)
    for reader in others:
        if begun:
            assert reader.was_told_of_the_loss(), reader.frames
            assert reader.text == "".join(begun)
        else:
            assert reader.is_complete_with("".join(ANSWER)), reader.frames
