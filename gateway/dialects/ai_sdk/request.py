"""Read the requests of the AI SDK's `useChat`: a body in, the turns of a conversation out. Pure.

A body has the whole history (`messages`, as `DefaultChatTransport` sends it) or only the news (`message`, the AI SDK's
recipe for servers that store the rest). Not here: answers (stream.py), and the rules of a chat (admission).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway.dialects.ai_sdk.steps import assistant_messages
from shared.model.errors import InvalidRequest

MAX_ID: Final = 255
"""Characters of a chat's or a message's id, which the browser generates; the AI SDK's own have 16."""

REGENERATE: Final = "regenerate-message"
_TRIGGERS = ("submit-message", REGENERATE)
_ROLES = ("system", "user", "assistant")
# Parameters that an app may let its pages choose, under the names of chat completions. An app's own fields are not
# sent: a strict upstream would refuse them.
_PARAMETERS = (
    *("model", "temperature", "top_p", "max_tokens", "max_completion_tokens", "stop", "seed"),
    *("presence_penalty", "frequency_penalty", "reasoning_effort", "verbosity", "response_format"),
    *("tools", "tool_choice", "parallel_tool_calls"),
)
# Parts that are for the page only.
_SILENT = frozenset({"reasoning-file", "source-url", "source-document", "custom"})
_PARTS = "text, file, tool-<name>, dynamic-tool, reasoning, source-url, source-document, step-start, data-<name>"


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of the page, as messages of chat completions; empty if it has no content."""

    id: str
    messages: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class UiRequest:
    """A request for the next answer.

    `turns` are all of the conversation if it is `whole`, else only its news. `continues` is the id of the
    assistant's message that the answer belongs to: its tools have been called by the page. `cut` is the id of the
    message that is to be generated again.
    """

    chat_id: str
    turns: Sequence[Turn]
    whole: bool
    system: str | None
    parameters: Mapping[str, Any]
    continues: str | None
    cut: str | None

    def message_id(self, job_id: str) -> str:
        """Return the id of the assistant's message that this job gives."""
        return self.continues or "msg_" + job_id.removeprefix("job_")

    def after(self, former: Sequence[Turn]) -> list[Turn]:
        """Return the conversation with its news. A repeated message replaces itself and everything after it."""
        replaced = {turn.id for turn in self.turns if turn.id} | ({self.cut} if self.cut else set())
        kept = next((at for at, turn in enumerate(former) if turn.id in replaced), len(former))
        return [*former[:kept], *self.turns]


def read_ui_request(body: Mapping[str, Any]) -> UiRequest:
    """Read the body of `POST /api/chat`.

    Raises:
        InvalidRequest: names the field and its valid values.
    """
    trigger = body.get("trigger", _TRIGGERS[0])
    if trigger not in _TRIGGERS:
        raise InvalidRequest(f"trigger must be one of: {', '.join(_TRIGGERS)}.", param="trigger")
    whole = "messages" in body
    if whole:
        found = body["messages"]
        if not isinstance(found, list) or not found:
            raise InvalidRequest("messages must be a list of at least one message.", param="messages")
        places = [(message, f"messages[{position}]") for position, message in enumerate(found)]
    elif "message" in body:
        places = [(body["message"], "message")]
    else:
        raise InvalidRequest(
            "messages must hold the conversation, unless message holds its new part.", param="messages"
        )
    turns = [_turn(message, where) for message, where in places]
    last, _ = places[-1]
    continues = last["role"] == "assistant" and trigger != REGENERATE
    message_id = _optional_id(body.get("messageId"), "messageId")
    return UiRequest(
        chat_id=read_chat_id(body.get("id")),
        turns=turns,
        whole=whole,
        system=_system(body.get("system")),
        parameters={name: body[name] for name in _PARAMETERS if body.get(name) is not None},
        continues=turns[-1].id or None if continues else None,
        cut=message_id if trigger == REGENERATE else None,
    )


def read_chat_id(value: object) -> str:
    """Read a chat's id, from a body or an address: it may be any text.

    Raises:
        InvalidRequest: it is not an id.
    """
    return _read_id(value, "id")


def _read_id(value: object, where: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID:
        raise InvalidRequest(f"{where} must be a string of 1 to {MAX_ID} characters.", param=where)
    return value


def _optional_id(value: object, where: str) -> str | None:
    return None if value is None or value == "" else _read_id(value, where)


def _system(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise InvalidRequest("system must be a string.", param="system")
    return value or None


def _turn(message: object, where: str) -> Turn:
    if not isinstance(message, dict):
        raise InvalidRequest(f"{where} must be an object with a role and parts.", param=where)
    role = message.get("role")
    if role not in _ROLES:
        raise InvalidRequest(f"{where}.role must be one of: {', '.join(_ROLES)}.", param=f"{where}.role")
    parts = _parts(message, where)
    message_id = _optional_id(message.get("id"), f"{where}.id") or ""
    if role == "assistant":
        return Turn(message_id, assistant_messages(parts))
    content = _content(parts, f"{where}.parts")
    if role == "system":
        content = "".join(part["text"] for part in content if part["type"] == "text")
    elif all(part["type"] == "text" for part in content):
        content = "".join(part["text"] for part in content)
    if not content:
        raise InvalidRequest(f"{where}.parts must have a text part or a file part.", param=f"{where}.parts")
    return Turn(message_id, [{"role": role, "content": content}])


def _parts(message: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    """Return the parts of a message that are for a model, and the steps between them."""
    parts = message.get("parts")
    if parts is None and isinstance(text := message.get("content"), str):
        return [{"type": "text", "text": text}]
    if not isinstance(parts, list):
        raise InvalidRequest(f"{where}.parts must be a list of parts.", param=f"{where}.parts")
    said = []
    for position, part in enumerate(parts):
        here = f"{where}.parts[{position}]"
        part_type = part.get("type") if isinstance(part, dict) else None
        if not isinstance(part_type, str):
            raise InvalidRequest(f"{here} must be an object with a type.", param=here)
        if part_type in _SILENT or part_type.startswith("data-"):
            continue
        _check_part(part, part_type, here)
        said.append(part)
    return said


def _check_part(part: Mapping[str, Any], part_type: str, where: str) -> None:
    if part_type in ("text", "reasoning"):
        needs: tuple[str, ...] = ("text",)
    elif part_type == "file":
        needs = ("mediaType", "url")
    elif part_type == "dynamic-tool":
        needs = ("toolName", "toolCallId", "state")
    elif part_type.startswith("tool-"):
        needs = ("toolCallId", "state")
    elif part_type == "step-start":
        needs = ()
    else:
        raise InvalidRequest(f"{where}.type must be one of: {_PARTS}.", param=f"{where}.type")
    for name in needs:
        if not isinstance(part.get(name), str):
            raise InvalidRequest(f"{where}.{name} must be a string.", param=f"{where}.{name}")


def _content(parts: Sequence[Mapping[str, Any]], where: str) -> Any:
    """Translate a user's parts into those of chat completions."""
    content: list[dict[str, Any]] = []
    for part in parts:
        if part["type"] == "text":
            content.append({"type": "text", "text": part["text"]})
        elif part["type"] == "file":
            content.append(_file(part, where))
    return content


def _file(part: Mapping[str, Any], where: str) -> dict[str, Any]:
    if part["mediaType"].startswith("image/"):
        return {"type": "image_url", "image_url": {"url": part["url"]}}
    if not part["url"].startswith("data:"):
        raise InvalidRequest(
            f"{where} must be an image, or a file with a data: URL.",
            param=where,
        )
    name = part.get("filename")
    named = {"filename": name} if isinstance(name, str) else {}
    return {"type": "file", "file": {**named, "file_data": part["url"]}}
