"""Replies of all dialects, folded to one comparable answer. Pure: bytes in, an `Answer` out.

Chat and Responses are folded by openai-python's own accumulators, the AI SDK's stream by the rules of its
`processUIMessageStream`, the native stream by the rules of the replay log. Each folder also asserts its dialect's form:
a reply that the official client could not read fails here. Not here: sending a request (tests/cases/dialects.py).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from openai import omit
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from gateway.client.transcript import Transcript, Voice
from shared.events import Event, decode_frame, split_frames
from shared.sse_reader import SentEvent
from tests.support.system import proven

DONE = b"[DONE]"
_RESPONSE_EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
_FINISH_REASONS = ("stop", "length", "tool_calls", "content_filter")


@dataclass(frozen=True)
class Call:
    """A tool call. `extra` are its further fields, where the dialect shows them."""

    id: str
    name: str
    arguments: str
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Trouble:
    """An error. `code` and `status` are None where the dialect has none."""

    message: str
    code: str | None = None
    status: int | None = None


@dataclass(frozen=True)
class Answer:
    """A reply of any dialect. `raw` is the reply in its own form, for checks that only one dialect can pass."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    calls: tuple[Call, ...] = ()
    finish: str | None = "stop"
    trouble: Trouble | None = None
    usage: tuple[int, int, int] | None = field(default=None, compare=False)
    raw: Any = field(default=None, compare=False)

    def joined(self) -> "Answer":
        """The answer with its refusal as text, as dialects without refusals show it."""
        return replace(self, text=self.text + self.refusal, refusal="")


def canonical(arguments: str) -> str:
    """Arguments as compact JSON, or as they are if they are not JSON."""
    try:
        return json.dumps(json.loads(arguments), separators=(",", ":"), ensure_ascii=False)
    except ValueError:
        return arguments


def payloads(body: bytes) -> list[bytes]:
    """The data of each event of a reply; heartbeats are skipped."""
    frames = [frame.replace(b": hb\n", b"") for frame in body.split(b"\n\n")]
    assert frames.pop() in (b"", b": hb\n"), "the last event is torn"
    found = []
    for frame in frames:
        (data,) = (line for line in frame.split(b"\n") if line.startswith(b"data: "))
        found.append(data.removeprefix(b"data: "))
    return found


def _counts(usage: Mapping[str, Any] | None, *names: str) -> tuple[int, int, int] | None:
    if usage is None:
        return None
    first, second, third = (usage[name] for name in names)
    return first, second, third


def failed(trouble: Trouble, raw: object = None) -> Answer:
    """A reply that is an error and nothing else."""
    return Answer(finish=None, trouble=trouble, raw=raw)


# --- Chat completions


def fold_error(body: bytes, status: int) -> Answer:
    """An error response of OpenAI's dialects."""
    error = json.loads(body)["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return failed(Trouble(error["message"], error["code"], status), error)


def fold_chat(body: Mapping[str, Any], choice: int = 0) -> Answer:
    """One choice of a whole completion."""
    assert ChatCompletion.model_validate(body, strict=True).to_dict() == body
    return _of_choice(body, choice)


def fold_chat_stream(body: bytes, choice: int = 0) -> Answer:
    """One choice of a stream, by openai-python's accumulator. `raw` has the chunks."""
    *chunks, last = payloads(body)
    if last != DONE:
        chunks.append(last)
    state = ChatCompletionStreamState()
    shown = []
    trouble = None
    for payload in chunks:
        data = json.loads(payload)
        assert trouble is None, "something follows an error"
        if "error" in data:
            trouble = Trouble(data["error"]["message"], data["error"]["code"])
            continue
        shown.append(data)
        state.handle_chunk(ChatCompletionChunk.model_validate(data, strict=True))
    assert (trouble is None) == (last == DONE)
    if not shown:
        assert trouble is not None
        return failed(trouble)
    answer = replace(_of_choice(state.current_completion_snapshot.to_dict(), choice), raw=shown)
    return answer if trouble is None else replace(answer, finish=None, trouble=trouble)


def _of_choice(body: Mapping[str, Any], number: int) -> Answer:
    (choice,) = (each for each in body["choices"] if each["index"] == number)
    message = choice["message"]
    return Answer(
        text=message.get("content") or "",
        reasoning=message.get("reasoning_content") or "",
        refusal=message.get("refusal") or "",
        calls=tuple(_chat_call(call) for call in message.get("tool_calls") or ()),
        finish=choice["finish_reason"],
        usage=_counts(body.get("usage"), "prompt_tokens", "completion_tokens", "total_tokens"),
        raw=body,
    )


def _chat_call(call: Mapping[str, Any]) -> Call:
    kind = call["type"]
    given = call[kind]
    extra = {
        name: value for name, value in call.items() if name not in ("id", "type", kind, "index") and value is not None
    }
    arguments = given["arguments"] if kind == "function" else given["input"]
    assert isinstance(arguments, str)
    return Call(call["id"], given["name"], arguments, extra)


# --- Legacy completions


def fold_text(body: Mapping[str, Any], choice: int = 0) -> Answer:
    """One choice of a whole legacy completion."""
    assert body["object"] == "text_completion"
    assert Completion.model_validate({**body, "choices": []}, strict=True).to_dict() == {**body, "choices": []}
    (found,) = (each for each in body["choices"] if each["index"] == choice)
    usage = _counts(body["usage"], "prompt_tokens", "completion_tokens", "total_tokens")
    return Answer(found["text"], finish=found["finish_reason"], usage=usage, raw=body)


def fold_text_stream(body: bytes, choice: int = 0) -> Answer:
    """One choice of a stream of legacy completions. `raw` has the chunks."""
    *shown, last = payloads(body)
    if last != DONE:
        shown.append(last)
    chunks = list(map(json.loads, shown))
    errors = [chunk["error"] for chunk in chunks if "error" in chunk]
    assert (last == DONE) == (not errors)
    assert [error for error in chunks[-1:] if "error" in error] == [{"error": error} for error in errors]
    shown_choices = [each for chunk in chunks for each in chunk.get("choices", ()) if each["index"] == choice]
    usages = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
    return Answer(
        "".join(each["text"] for each in shown_choices),
        finish=None if errors else shown_choices[-1]["finish_reason"],
        trouble=Trouble(errors[0]["message"], errors[0]["code"]) if errors else None,
        usage=_counts(usages[0], "prompt_tokens", "completion_tokens", "total_tokens") if usages else None,
        raw=chunks,
    )


# --- Responses

RESPONSE_CODES = ("context_length_exceeded", "insufficient_quota")
"""Error codes that Codex knows and the types of openai-python do not list."""


def fold_response(body: Mapping[str, Any]) -> Answer:
    """A whole response."""
    Response.model_validate(_listed(body), strict=True)
    output = body["output"]
    contents = [part for item in output if item["type"] == "message" for part in item["content"]]
    calls = [item for item in output if item["type"] in ("function_call", "custom_tool_call")]
    trouble = Trouble(body["error"]["message"], body["error"]["code"]) if body["error"] else None
    return Answer(
        text="".join(part["text"] for part in contents if part["type"] == "output_text"),
        reasoning="".join(map(_thought, (item for item in output if item["type"] == "reasoning"))),
        refusal="".join(part["refusal"] for part in contents if part["type"] == "refusal"),
        calls=tuple(map(_response_call, calls)),
        finish=None if trouble else _response_finish(body, bool(calls)),
        trouble=trouble,
        usage=_counts(body.get("usage"), "input_tokens", "output_tokens", "total_tokens"),
        raw=body,
    )


def _listed(response: Mapping[str, Any]) -> Mapping[str, Any]:
    """A response whose error has a code of the client's types; two that OpenAI's servers send are not among them."""
    if response["error"] is None or response["error"]["code"] not in RESPONSE_CODES:
        return response
    return {**response, "error": {**response["error"], "code": "server_error"}}


def _thought(item: Mapping[str, Any]) -> str:
    text = "".join(part["text"] for part in item.get("content") or ())
    summary = "".join(part["text"] for part in item.get("summary") or ())
    assert not (text and summary) or text == summary
    return text or summary


def _response_call(item: Mapping[str, Any]) -> Call:
    arguments = item["input"] if item["type"] == "custom_tool_call" else item["arguments"]
    known = ("id", "type", "status", "call_id", "name", "input", "arguments")
    extra = {name: value for name, value in item.items() if name not in known and value is not None}
    return Call(item["call_id"], item["name"], arguments, extra)


def _response_finish(body: Mapping[str, Any], calls: bool) -> str:
    match body["status"]:
        case "completed":
            return "tool_calls" if calls else "stop"
        case "incomplete":
            reason: str = body["incomplete_details"]["reason"]
            return "length" if reason == "max_output_tokens" else reason
    raise AssertionError(body["status"])


def fold_response_stream(body: bytes) -> Answer:
    """A response's events, by openai-python's accumulator. `raw` has the last response, `events` beside it."""
    state: ResponseStreamState[Any] = ResponseStreamState(input_tools=[], text_format=omit)
    events = [json.loads(payload) for payload in payloads(body)]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    for event in events:
        shown = {**event, "response": _listed(event["response"])} if "response" in event else event
        state.handle_event(_RESPONSE_EVENTS.validate_python(shown, strict=True))
    if events[-1]["type"] == "error":
        return failed(Trouble(events[-1]["message"], events[-1]["code"]), events)
    last = events[-1]["response"]
    answer = fold_response(last)
    assert _streamed(events) == _written(last["output"])
    return replace(answer, raw={**last, "events": events})


def _streamed(events: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], str]:
    """What the deltas of each item add up to, by item and kind."""
    texts: dict[tuple[str, str], str] = {}
    announced: dict[str, Mapping[str, Any]] = {}
    for event in events:
        match event["type"].split("."):
            case ["response", "output_item", "added"]:
                announced[event["item"]["id"]] = event["item"]
                if event["item"]["type"].endswith("_call"):
                    assert event["item"]["name"] and event["item"]["call_id"]
            case ["response", kind, "delta"]:
                place = event["item_id"], kind
                texts[place] = texts.get(place, "") + event["delta"]
            case ["response", "output_item", "done"]:
                begun, item = announced[event["item"]["id"]], event["item"]
                same = ("id", "type", "call_id", "name")
                assert [begun.get(name) for name in same] == [item.get(name) for name in same]
    return texts


def _written(output: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], str]:
    texts: dict[tuple[str, str], str] = {}
    for item in output:
        match item["type"]:
            case "function_call":
                texts[item["id"], "function_call_arguments"] = item["arguments"]
            case "custom_tool_call":
                texts[item["id"], "custom_tool_call_input"] = item["input"]
            case "reasoning":
                texts[item["id"], "reasoning_text"] = "".join(part["text"] for part in item.get("content") or ())
                texts[item["id"], "reasoning_summary_text"] = "".join(part["text"] for part in item["summary"])
            case "message":
                for part in item["content"]:
                    place = item["id"], part["type"]
                    texts[place] = texts.get(place, "") + part.get("text", part.get("refusal"))
    return {place: text for place, text in texts.items() if text}


# --- The AI SDK's UI message stream

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

    def _add_tool(self, part: Mapping[str, Any], told: str) -> None:
        assert all(each.get("toolCallId") != part["toolCallId"] for each in self.parts)
        is_good = part["type"] == "tool-input-available"
        if is_good:
            assert json.loads(told or "{}") == part["input"]
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


# --- The native stream, and its readers

_TEXTS = ("content", "reasoning_content", "refusal")
_FORMER_NAMES = frozenset({"role", "reasoning", "reasoning_text", "thinking", "function_call"})


def fold_native(body: bytes, choice: int = 0) -> Answer:
    """One choice of a job's events. `raw` is the story: every event, proven."""
    story = proven([decode_frame(frame) for frame in split_frames(body.replace(b": hb\n", b""))])
    deltas = [delta.json() for delta in story.deltas]
    for delta in deltas:
        check_delta(delta)
    mine = [delta for delta in deltas if delta.get("index", 0) == choice]
    texts = {name: "".join(delta.get(name, "") for delta in mine) for name in _TEXTS}
    error = story.end.get("error")
    reasons = story.end.get("finish_reasons") or [story.end.get("finish_reason")]
    return Answer(
        text=texts["content"],
        reasoning=texts["reasoning_content"],
        refusal=texts["refusal"],
        calls=tuple(_logged_calls(mine)),
        finish=None if error else reasons[choice],
        trouble=Trouble(error["message"], error["code"]) if error else None,
        usage=_counts(story.end.get("usage"), "prompt_tokens", "completion_tokens", "total_tokens"),
        raw=story,
    )


def check_delta(delta: Mapping[str, Any]) -> None:
    """Check that a delta has the one form of the log."""
    assert delta, "a delta is empty"
    assert not delta.keys() & _FORMER_NAMES, delta
    assert all(value is not None and value != "" and value != [] for value in delta.values()), delta
    assert delta.get("index") != 0
    for name in _TEXTS:
        text = delta.get(name, "")
        assert isinstance(text, str)
        text.encode()  # no half of a surrogate pair


def _logged_calls(deltas: Sequence[Mapping[str, Any]]) -> Iterator[Call]:
    """The calls of one choice, from fragments that must follow the one form of the log."""
    calls: list[Call] = []
    for fragment in (fragment for delta in deltas for fragment in delta.get("tool_calls", ())):
        further = {
            name: value for name, value in fragment.items() if name not in ("index", "id", "type", "function", "custom")
        }
        given = fragment.get("function") or {}
        arguments = given.get("arguments", "")
        if "custom" in fragment:
            given = fragment["custom"]
            arguments = given.get("input", "")
        assert isinstance(arguments, str)
        if "id" in fragment:
            assert fragment["index"] == len(calls), fragment
            assert fragment["id"] and given["name"] and fragment["type"] in ("function", "custom")
            assert fragment["id"] not in [call.id for call in calls]
            calls.append(Call(fragment["id"], given["name"], arguments, further))
        else:
            assert "name" not in given
            call = calls[fragment["index"]]
            calls[fragment["index"]] = replace(
                call, arguments=call.arguments + arguments, extra={**call.extra, **further}
            )
    return iter(calls)


def fold_transcript(body: bytes) -> Answer:
    """The same events as the command line understands them."""
    transcript = Transcript()
    for event in map(decode_frame, split_frames(body.replace(b": hb\n", b""))):
        transcript.apply(_as_sent(event))
    assert transcript.end is not None
    error = transcript.end.data.get("error")
    calls = tuple(Call("", call.name, call.arguments) for call in transcript.tool_calls)
    return Answer(
        text=transcript.text,
        reasoning="".join(said.text for said in transcript.said if said.voice is Voice.REASONING),
        calls=calls,
        finish=None if error else transcript.end.data["finish_reason"],
        trouble=Trouble(error["message"], error["code"]) if error else None,
        raw=transcript,
    )


def _as_sent(event: Event) -> SentEvent:
    return SentEvent(event.type.value, event.data, None if event.id is None else str(event.id))
