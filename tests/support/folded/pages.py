"""Fold UI message streams, by the rules of processUIMessageStream in `ai`."""

import json
from collections.abc import Mapping
from typing import Any

from tests.support.folded.answer import DONE, Answer, Call, Trouble, payloads

_UI_FINISH = {"tool-calls": "tool_calls", "content-filter": "content_filter"}


def fold_ui(body: bytes) -> Answer:
    """A UI message, by the rules of `ai`'s processUIMessageStream. `raw` is the assistant's message."""
    *rest, last = payloads(body)
    parts = [json.loads(payload) for payload in (rest if last == DONE else [*rest, last])]
    page = _Page()
    for part in parts:
        page.take(part)
    assert (page.trouble is None) == (last == DONE)
    return page.answer()


class _Page:
    """A page's message as it grows."""

    def __init__(self) -> None:
        self.parts: list[dict[str, Any]] = []
        self.message_id: str | None = None
        self.finish: str | None = None
        self.trouble: Trouble | None = None
        self._open: dict[str, dict[str, Any]] = {}
        self._inputs: dict[str, str] = {}

    def take(self, part: Mapping[str, Any]) -> None:
        """Apply one part of the stream."""
        assert self.finish is None and self.trouble is None
        match part["type"]:
            case "start":
                assert self.message_id is None
                self.message_id = part["messageId"]
            case "start-step":
                self.parts.append({"type": "step-start"})
            case "text-start" | "reasoning-start":
                assert part["id"] not in self._open
                self._open[part["id"]] = {"type": part["type"].removesuffix("-start"), "text": ""}
                self.parts.append(self._open[part["id"]])
            case "text-delta" | "reasoning-delta":
                assert isinstance(part["delta"], str) and part["delta"]
                self._open[part["id"]]["text"] += part["delta"]
            case "text-end" | "reasoning-end":
                del self._open[part["id"]]
            case "finish-step":
                assert not self._open
            case "finish":
                self.finish = _UI_FINISH.get(part["finishReason"], part["finishReason"])
            case "error":
                self.trouble = Trouble(part["errorText"])
            case _:
                self._take_tool(part)

    def _take_tool(self, part: Mapping[str, Any]) -> None:
        call_id = part["toolCallId"]
        assert isinstance(call_id, str) and call_id
        match part["type"]:
            case "tool-input-start":
                assert part["toolName"] and call_id not in self._inputs
                self._inputs[call_id] = ""
            case "tool-input-delta":
                self._inputs[call_id] += part["inputTextDelta"]
            case "tool-input-available" | "tool-input-error":
                self._add_tool(part, self._inputs.pop(call_id))
            case kind:
                raise AssertionError(f"The AI SDK does not know the part {kind}.")

    def _add_tool(self, part: Mapping[str, Any], reported: str) -> None:
        assert all(each.get("toolCallId") != part["toolCallId"] for each in self.parts)
        is_good = part["type"] == "tool-input-available"
        if is_good:
            assert json.loads(reported or "{}") == part["input"]
        tool = {
            "type": f"tool-{part['toolName']}",
            "toolCallId": part["toolCallId"],
            "state": "input-available" if is_good else "output-error",
            "input": part["input"],
        }
        if "providerMetadata" in part:
            tool["callProviderMetadata"] = part["providerMetadata"]
        self.parts.append(tool)

    def answer(self) -> Answer:
        """The message, folded."""
        assert self.trouble is not None or not self._inputs, "a tool call was not completed"
        tools = [part for part in self.parts if part["type"].startswith("tool-")]
        return Answer(
            text="".join(part["text"] for part in self.parts if part["type"] == "text"),
            reasoning="".join(part["text"] for part in self.parts if part["type"] == "reasoning"),
            calls=tuple(map(_ui_call, tools)),
            finish=self.finish,
            trouble=self.trouble,
            raw={"id": self.message_id, "role": "assistant", "parts": self.parts},
        )


def _ui_call(tool: Mapping[str, Any]) -> Call:
    given = tool["input"]
    is_good = tool["state"] == "input-available"
    arguments = json.dumps(given, separators=(",", ":"), ensure_ascii=False) if is_good else given
    return Call(tool["toolCallId"], tool["type"].removeprefix("tool-"), arguments)
