"""Translate Responses' input items into the messages of a chat. Pure.

An answer of a model is one message of a chat, but several items: its thoughts, its texts and its calls. An item that
chats cannot express is refused by its place. Not here: the fields of a request, and messages as items (input_items.py).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from gateway.dialects.responses.checks import need
from gateway.dialects.responses.item_ids import Item, job_of
from gateway.dialects.responses.parts import Content, content_of, joined, result_of
from gateway.dialects.responses.tool_results import Message, results_behind_calls
from gateway.dialects.responses.tools import ToolNames
from shared.model.errors import InvalidRequest
from shared.model.events import encode_data

_ROLES = ("user", "system", "developer", "assistant")
CALL_FIELDS: Final = frozenset(
    {
        *("type", "id", "call_id", "name", "namespace", "arguments", "input", "status", "caller", "async"),
        "created_by",
    }
)
"""Fields of a call's item that the dialect defines. All further ones are an upstream's own, and go back to it."""

_CALLS = ("function_call", "custom_tool_call")
_OBJECTS = ("function", "custom")
_STATE_FIELDS = ("extra_content", "provider_specific_fields", "signature", "thought_signature", "thoughtSignature")
_REFUSED = {
    "compaction": "{where} must not be a compaction: only the server that made it can read its content.",
    "compaction_trigger": "{where} must not be a compaction_trigger: conversations are not compacted.",
}
_TYPES = (
    "message, function_call, function_call_output, custom_tool_call, custom_tool_call_output, reasoning, "
    "additional_tools or item_reference"
)


class Answer(NamedTuple):
    """A message that a model has given, and its job; empty if no id of its items names one."""

    message: Message
    job: str


class ItemConversation(NamedTuple):
    """The messages of a chat, and those of them that are answers made of items."""

    messages: list[Message]
    answers: list[Answer]


def conversation_of(
    items: Iterable[Item], earlier: Sequence[Message] = (), names: ToolNames | None = None
) -> ItemConversation:
    """Translate items into a chat that continues the `earlier` messages.

    `names` has the upstream names of the declared tools.

    Raises:
        InvalidRequest: names the item and its valid form.
    """
    chat = _Chat(earlier, names or ToolNames(()))
    for number, item in enumerate(items):
        chat.add(item, f"input[{number}]")
    messages, answers = chat.end()
    return ItemConversation(results_behind_calls(messages), answers)


def messages_of(
    items: Iterable[Item], earlier: Sequence[Message] = (), names: ToolNames | None = None
) -> list[Message]:
    """Do the same without naming the answers."""
    return conversation_of(items, earlier, names).messages


def from_caller(item: Item) -> Item:
    """Leave out the fields of a call's item that are neither the dialect's nor known to be an upstream's.

    They may be a client's own, and strict upstreams refuse unknown ones.
    """
    if item.get("type") not in _CALLS:
        return item
    return {name: value for name, value in item.items() if name in CALL_FIELDS or name in _STATE_FIELDS}


def chat_call(call_id: str, name: str, arguments: str, further: Mapping[str, Any]) -> Message:
    """Write a call of a chat with the further fields that its upstream has given it.

    Those of the call's inner object are under the name of that object.
    """
    outer = {field: value for field, value in further.items() if field not in _OBJECTS and field not in CALL_FIELDS}
    inner: Message = {}
    for kind in _OBJECTS:
        if isinstance(fields := further.get(kind), dict):
            inner |= fields
    return {"id": call_id, "type": "function", "function": {**inner, "name": name, "arguments": arguments}, **outer}


class _Chat:
    """Build the messages of a chat item by item. Earlier messages are copied before they change."""

    def __init__(self, earlier: Sequence[Message], names: ToolNames) -> None:
        self._messages = list(earlier)
        self._names = names
        self._shared = len(self._messages)
        # Pieces of the messages at these positions: they are joined at the end, since there may be thousands.
        self._texts: dict[int, list[Any]] = {}
        self._reasons: dict[int, list[str]] = {}
        self._thoughts: list[str] = []
        # The model's latest answer, while only results of its calls have followed, and the job that gave it.
        self._answer: int | None = None
        self._job = ""
        self._answers: list[Answer] = []

    def end(self) -> tuple[list[Message], list[Answer]]:
        """End the chat: all messages, and the answers among those that are new."""
        self._end_answer()
        self._note_answer()
        for at, texts in self._texts.items():
            self._messages[at]["content"] = joined(texts)
        for at, reasons in self._reasons.items():
            self._messages[at]["reasoning_content"] = "".join(reasons)
        return self._messages, self._answers

    def add(self, item: Item, where: str) -> None:
        """Add one item."""
        match item.get("type") or "message":
            case "message":
                self._message(item, where)
            case "function_call":
                need(item, where, call_id=str, name=str, arguments=str)
                self._call(item, item["arguments"])
            case "custom_tool_call":
                need(item, where, call_id=str, name=str, input=str)
                self._call(item, encode_data({"input": item["input"]}).decode())
            case "function_call_output" | "custom_tool_call_output":
                need(item, where, call_id=str, output=(str, list))
                self._result(item, where)
            case "reasoning":
                self._thoughts.append(_thoughts(item))
            case "additional_tools" | "configuration_update":
                pass  # tools are read with those of the request
            case str(kind) if kind in _REFUSED:
                raise InvalidRequest(_REFUSED[kind].format(where=where), param=where)
            case _:
                raise InvalidRequest(f"{where}.type must be {_TYPES}: no others are supported.", param=f"{where}.type")

    def _message(self, item: Item, where: str) -> None:
        if item.get("role") not in _ROLES:
            raise InvalidRequest(f"{where}.role must be one of: {', '.join(_ROLES)}.", param=f"{where}.role")
        need(item, where, content=(str, list))
        content = content_of(item["content"], f"{where}.content")
        if item["role"] != "assistant":
            self._end_answer()
            self._note_answer()
            self._messages.append({"role": item["role"], "content": content})
        elif self._speaks() and self._messages[-1].get("tool_calls"):
            # Nothing but results may stand behind a call: a text that follows one belongs to the same message.
            at = len(self._messages) - 1
            self._texts.setdefault(at, [self._own(at).get("content")]).append(content)
            self._think(at, item)
        else:
            self._begin_answer(content, item)

    def _call(self, item: Item, arguments: str) -> None:
        """Add a call to the message that it belongs to."""
        if self._speaks():
            at = len(self._messages) - 1
        elif self._answer is not None and job_of(item) and job_of(item) == self._job:
            at = self._answer  # results arrived between two calls of one answer
        else:
            at = self._begin_answer(None, item)
        self._think(at, item)
        name = self._names.upstream(item["name"], _namespace(item))
        further = {field: value for field, value in item.items() if value is not None}
        self._own(at).setdefault("tool_calls", []).append(chat_call(item["call_id"], name, arguments, further))

    def _result(self, item: Item, where: str) -> None:
        """Add a tool's result. Chats take images and files from users only, so that these follow as a user's."""
        self._end_answer()
        texts, files = result_of(item["output"], f"{where}.output")
        self._messages.append(
            {"role": "tool", "tool_call_id": item["call_id"], "content": texts or _shown_below(files)}
        )
        if files:
            label = {"type": "text", "text": f"Result of the tool call {item['call_id']}:"}
            self._messages.append({"role": "user", "content": [label, *files]})

    def _speaks(self) -> bool:
        return bool(self._messages) and self._messages[-1].get("role") == "assistant"

    def _begin_answer(self, content: Content | None, item: Item) -> int:
        self._note_answer()
        self._answer, self._job = len(self._messages), ""
        self._messages.append({"role": "assistant", "content": content})
        self._think(self._answer, item)
        return self._answer

    def _note_answer(self) -> None:
        if self._answer is not None:
            self._answers.append(Answer(self._messages[self._answer], self._job))
            self._answer = None

    def _own(self, at: int) -> Message:
        """Return a message that may be changed."""
        if at == self._shared - 1:
            self._shared = at
            message = dict(self._messages[at])
            calls = message.pop("tool_calls", None)
            self._messages[at] = message | ({"tool_calls": [*calls]} if calls else {})
        return self._messages[at]

    def _think(self, at: int, item: Item | None = None) -> None:
        """Add the thoughts so far to the message that they led to."""
        self._job = self._job or job_of(item or {})
        if any(self._thoughts):
            before = self._own(at).get("reasoning_content") or ""
            self._reasons.setdefault(at, [before]).extend(self._thoughts)
        self._thoughts.clear()

    def _end_answer(self) -> None:
        """Add thoughts that led to nothing to the message before them, if it is an answer."""
        if self._speaks():
            self._think(len(self._messages) - 1)
        self._thoughts.clear()


def _shown_below(files: Sequence[object]) -> str:
    return "The result follows in a user message." if files else ""


def _namespace(item: Item) -> str | None:
    namespace = item.get("namespace")
    return namespace if isinstance(namespace, str) else None


def _thoughts(item: Item) -> str:
    """Read a reasoning item: its text, or else its summary. Content that is sealed by another server is left out."""
    texts = [part["text"] for part in _parts(item.get("content"), "reasoning_text")]
    if texts:
        return "".join(texts)
    return "\n\n".join(part["text"] for part in _parts(item.get("summary"), "summary_text"))


def _parts(given: object, kind: str) -> list[Item]:
    parts = given if isinstance(given, list) else []
    return [part for part in parts if isinstance(part, dict) and part.get("type") == kind and _is_text(part)]


def _is_text(part: Item) -> bool:
    return isinstance(part.get("text"), str)
