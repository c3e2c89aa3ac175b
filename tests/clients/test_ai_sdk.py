"""Use Vercel's AI SDK, unchanged, against real processes: a chat that survives everything but its own end.

`js/chat.js` uses the class behind `useChat`, with its `DefaultChatTransport`. The version at hand is the current one;
the tests of possible differences run with the older ones too.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from tests.clients.ai_page import VERSIONS, AiPage, ai_page, text_of
from tests.clients.browser import script
from tests.clients.system import KEY, System
from tests.golden.test_ui_message_streams import RECORDINGS
from tests.support.processes import Processes
from tests.support.valkey import fresh_prefix

pytestmark = pytest.mark.asyncio(loop_scope="package")

TEXT = "one two \u2028 three\n\ndata: [DONE]\n\nfour naïve 🌊 five"
SIGNATURE = {"google": {"thought_signature": "c2ln"}}
IN_TWO_HALVES = {"text": TEXT, "fault": "stall", "after": 2, "stall_s": 3.0}
FOR_EVER = {"text": TEXT, "fault": "stall", "after": 2}
HALF = "one two \u2028 "  # the upstream takes \u2028 for white space


@pytest.fixture
def chat_id() -> str:
    """Return a chat that only this test uses."""
    return f"chat-{secrets.token_hex(4)}"


@pytest_asyncio.fixture(loop_scope="package")
async def page(js: Path, system: System) -> AsyncIterator[AiPage]:
    """Open a page with the current version."""
    async with ai_page(js, system.url) as opened:
        yield opened


def raw(*deltas: dict[str, Any]) -> dict[str, Any]:
    """Return a script for an upstream that sends exactly these deltas."""
    chunks: list[Any] = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
    return {"http": {"headers": {"content-type": "text/event-stream"}, "body": body}}


async def stop(system: System, chat_id: str) -> Any:
    """Stop the chat as the page's stop button does."""
    async with httpx2.AsyncClient() as client:
        address = f"{system.url}/api/chat/{chat_id}/stop"
        return (await client.post(address, headers={"Authorization": f"Bearer {KEY}"})).json()


def kinds(state: dict[str, Any]) -> list[str]:
    return [part["type"] for part in state["messages"][-1]["parts"]]


# Each version.


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_chat_of_two_turns(js: Path, system: System, model: str, chat_id: str, version: str) -> None:
    async with ai_page(js, system.url, version) as page:
        await page.do("open", id=chat_id, body={"model": model})
        await page.do("send", text=script(text=TEXT, reasoning=2))
        first = await page.do("settle")
        assert (first["status"], first["error"], text_of(first)) == ("ready", None, TEXT)
        assert kinds(first) == ["step-start", "reasoning", "text"]
        await page.do("send", text=script(text="Second."))
        second = await page.do("settle")
    assert text_of(second) == "Second."
    assert [message["role"] for message in second["messages"]] == ["user", "assistant"] * 2
    asked = (await system.upstream.requests(model))[-1]["messages"]
    assert [each["role"] for each in asked] == ["user", "assistant", "user"]
    assert asked[1]["content"] == TEXT


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_page_that_is_loaded_again_continues(
    js: Path, system: System, model: str, chat_id: str, version: str
) -> None:
    async with ai_page(js, system.url, version) as page:
        await page.do("open", id=chat_id, body={"model": model})
        await page.do("send", text=script(**IN_TWO_HALVES))
        before = await page.do("until", text=HALF)
    question, half = before["messages"]
    async with ai_page(js, system.url, version) as page:
        await page.do("open", id=chat_id, messages=[question], body={"model": model})
        await page.do("resume")
        after = await page.do("settle")
        assert (after["status"], text_of(after)) == ("ready", TEXT)
        assert after["messages"][-1]["id"] == half["id"]
        assert len(after["messages"]) == 2
        await page.do("resume")
        assert (await page.do("settle")) == after
    assert len(await system.upstream.requests(model)) == 1


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_stop_ends_the_upstream_and_keeps_the_text_so_far(
    js: Path, system: System, model: str, chat_id: str, version: str
) -> None:
    async with ai_page(js, system.url, version) as page:
        await page.do("open", id=chat_id, body={"model": model})
        await page.do("send", text=script(**FOR_EVER))
        await page.do("until", text=HALF)
        assert await stop(system, chat_id) == {"success": True}
        stopped = await page.do("settle")
        assert (stopped["status"], stopped["error"], text_of(stopped)) == ("ready", None, HALF)
        await system.upstream.until_closed(model)
        await page.do("resume")
        assert await page.do("settle") == stopped


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_call_goes_back_with_the_thoughts_and_the_state_of_its_upstream(
    js: Path, system: System, model: str, chat_id: str, version: str
) -> None:
    first = {"index": 0, "id": "t1", "type": "function", "function": {"name": "look", "arguments": '{"at":"it"}'}}
    deltas: list[dict[str, Any]] = [
        {"reasoning_content": "I must look."},
        {"tool_calls": [{**first, "extra_content": SIGNATURE}]},
    ]
    async with ai_page(js, system.url, version) as page:
        await page.do("open", id=chat_id, body={"model": model})
        await page.do("send", text=script(**raw(*deltas)))
        called = await page.do("settle")
        assert kinds(called) == ["step-start", "reasoning", "tool-look"]
        await page.do("tool", tool="look", toolCallId="t1", output="sunny")
        answered = await page.do("settle")
    assert (answered["status"], answered["error"]) == ("ready", None)
    asked = (await system.upstream.requests(model))[-1]["messages"]
    call = {name: first[name] for name in ("id", "type", "function")}
    assert asked[1:] == [
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "I must look.",
            "tool_calls": [{**call, "extra_content": SIGNATURE}],
        },
        {"role": "tool", "tool_call_id": "t1", "content": "sunny"},
    ]


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_chats_id_may_be_any_text(js: Path, system: System, model: str, chat_id: str, version: str) -> None:
    async with ai_page(js, system.url, version) as page:
        await page.do("open", id=f"{chat_id}/東京?\n%2F", body={"model": model})
        await page.do("send", text=script(text=TEXT))
        first = await page.do("settle")
        assert (first["error"], text_of(first)) == (None, TEXT)
        await page.do("resume")
        assert await page.do("settle") == first


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_recordings_are_read_as_they_are_meant(js: Path, version: str) -> None:
    async with ai_page(js, "http://nobody.test", version) as page:
        for file in sorted(RECORDINGS.iterdir()):
            said = [line[6:] for line in file.read_text().splitlines() if line.startswith("data: {")]
            parts = [json.loads(each) for each in said]
            errors = [part["errorText"] for part in parts if part["type"] == "error"]
            state = await page.do("replay", file=str(file))
            assert state["error"] == (errors[0] if errors else None), file
            assert state["status"] == ("error" if errors else "ready"), file
            if "start" in {part["type"] for part in parts}:
                deltas = "".join(part["delta"] for part in parts if part["type"] == "text-delta")
                assert text_of(state) == deltas, file


# The current one.


async def test_a_connection_that_is_cut_in_mid_stream_is_taken_up_again(
    processes: Processes, js: Path, system: System, main_prefix: str, model: str, chat_id: str
) -> None:
    gateway = await processes.gateway(key_prefix=main_prefix)
    async with ai_page(js, gateway.url) as page:
        await page.do("open", id=chat_id, body={"model": model})
        # The answer must not end before the gateway is back: the hook can't resume one that has.
        await page.do("send", text=script(**{**IN_TWO_HALVES, "stall_s": 10.0}))
        await page.do("until", text=HALF)
        await gateway.crash()
        cut = await page.do("settle")
        assert (cut["status"], text_of(cut)) == ("error", HALF)
        await processes.gateway(key_prefix=main_prefix, port=int(gateway.url.rpartition(":")[2]))
        await page.do("resume")
        whole = await page.do("settle")
    assert (whole["status"], text_of(whole), len(whole["messages"])) == ("ready", TEXT, 2)
    assert whole["messages"][-1]["id"] == cut["messages"][-1]["id"]
    assert len(await system.upstream.requests(model)) == 1


async def test_the_hooks_own_stop_leaves_and_stops_nothing(
    page: AiPage, system: System, model: str, chat_id: str
) -> None:
    await page.do("open", id=chat_id, body={"model": model})
    await page.do("send", text=script(**IN_TWO_HALVES))
    await page.do("until", text=HALF)
    left = await page.do("stop")
    assert left["status"] == "ready"
    await page.do("resume")
    assert text_of(await page.do("settle")) == TEXT


async def test_an_app_may_send_only_its_new_message(page: AiPage, system: System, model: str, chat_id: str) -> None:
    await page.do("open", id=chat_id, body={"model": model}, news=True)
    for text in ("First.", "Second."):
        await page.do("send", text=script(text=text))
        assert text_of(await page.do("settle")) == text
    await page.do("regenerate")
    assert text_of(await page.do("settle")) == "Second."
    asked = [each["messages"] for each in await system.upstream.requests(model)]
    assert [len(messages) for messages in asked] == [1, 3, 3]
    assert asked[1][1] == {"role": "assistant", "content": "First."}
    assert asked[2] == asked[1]


async def test_a_page_calls_a_tool_and_gets_the_answer_in_the_same_message(
    page: AiPage, system: System, model: str, chat_id: str
) -> None:
    await page.do("open", id=chat_id, body={"model": model})
    await page.do("send", text=script(tool_calls=[{"name": "weather", "arguments": {"city": "Paris"}}]))
    called = await page.do("settle")
    (call,) = [part for part in called["messages"][-1]["parts"] if part["type"] == "tool-weather"]
    assert (call["state"], call["input"]) == ("input-available", {"city": "Paris"})
    await page.do("tool", tool="weather", toolCallId=call["toolCallId"], output={"sky": "blue"})
    answered = await page.do("settle")
    assert [message["role"] for message in answered["messages"]] == ["user", "assistant"]
    assert answered["messages"][-1]["id"] == called["messages"][-1]["id"]
    asked = (await system.upstream.requests(model))[-1]["messages"]
    assert [each["role"] for each in asked] == ["user", "assistant", "tool"]
    assert json.loads(asked[2]["content"]) == {"sky": "blue"}


async def test_a_refusal_is_the_chats_error(page: AiPage, system: System, chat_id: str) -> None:
    await page.do("open", id=chat_id, body={"model": "unknown-model"})
    await page.do("send", text="Hello?")
    refused = await page.do("settle")
    assert refused["status"] == "error"
    assert "unknown-model" in refused["error"]
    assert len(refused["messages"]) == 1


async def test_a_worker_killed_in_mid_answer_is_an_error_of_the_chat(
    processes: Processes, js: Path, system: System, model: str, chat_id: str
) -> None:
    prefix = fresh_prefix()
    options = {"key_prefix": prefix, "upstream_url": system.upstream.base_url, "lease_s": 0.5}
    gateway, worker = await asyncio.gather(processes.gateway(key_prefix=prefix), processes.worker(**options))
    async with ai_page(js, gateway.url) as page:
        await page.do("open", id=chat_id, body={"model": model})
        await page.do("send", text=script(**FOR_EVER))
        await page.do("until", text=HALF)
        await worker.crash()
        await processes.worker(**options)
        ended = await page.do("settle")
    assert ended["status"] == "error"
    assert "started over" in ended["error"]
    assert text_of(ended) == HALF


@pytest.mark.parametrize("after", [0, 2], ids=["before the answer", "in mid-answer"])
async def test_a_reloaded_page_never_shows_half_an_answer_as_a_whole_one(
    processes: Processes, js: Path, system: System, model: str, chat_id: str, after: int
) -> None:
    prefix = fresh_prefix()
    options = {"key_prefix": prefix, "upstream_url": system.upstream.base_url, "lease_s": 0.5}
    gateway, worker = await asyncio.gather(processes.gateway(key_prefix=prefix), processes.worker(**options))
    async with ai_page(js, gateway.url) as first, ai_page(js, gateway.url) as again:
        await first.do("open", id=chat_id, body={"model": model})
        await first.do("send", text=script(**{**IN_TWO_HALVES, "after": after, "stall_s": 1.0}))
        await system.upstream.until_asked(model)
        asked = await first.do("until", **({"text": HALF} if after else {"status": "submitted"}))
        await again.do("open", id=chat_id, messages=asked["messages"][:1], body={"model": model})
        await again.do("resume")
        if after:
            await again.do("until", text=HALF)
        await worker.crash()
        await processes.worker(**options)
        ends = [await page.do("settle") for page in (first, again)]

    for end in ends:
        reported = (end["status"], end["error"] is not None, text_of(end))
        assert reported in [("ready", False, TEXT), *([("error", True, HALF)] if after else [])]
