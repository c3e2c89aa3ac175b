"""Responses' items as chat's messages, and back.

Above: responses_request.py, and api/responses.py, which shows what a model was given. Below: the error tree. What a
chat has no word for is refused, and the error names the item. Pure. Not here: the fields of a request.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from shared.errors import InvalidRequest

Item = dict[str, Any]
Message = dict[str, Any]

_ROLES = ("user", "system", "developer", "assistant")


# --- Items to messages


def messages_of(items: Iterable[Item], earlier: Sequence[Message] = ()) -> list[Message]:
    """The messages of a chat in which these items follow what was said `earlier`.

    Reasoning is left out: chat completions take none back.

    Raises:
        InvalidRequest: names the item and what would be right.
    """
    messages = list(earlier)
    for number, item in enumerate(items):
        where = f"input[{number}]"
        match item.get("type", "message"):
            case "message":
                messages.append(_message(item, where))
            case "function_call":
                _call(messages, item, where)
            case "function_call_output":
                need(item, where, call_id=str, output=(str, list))
                content = _content(item["output"], f"{where}.output")
                messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": content})
            case "reasoning":
                pass
            case _:
                raise InvalidRequest(
                    f"{where}.type must be message, function_call, function_call_output, reasoning or item_reference: "
                    "no others are supported.",
                    param=f"{where}.type",
                )
    return messages


def _message(item: Item, where: str) -> Message:
    if item.get("role") not in _ROLES:
        raise InvalidRequest(f"{where}.role must be one of: {', '.join(_ROLES)}.", param=f"{where}.role")
    need(item, where, content=(str, list))
    return {"role": item["role"], "content": _content(item["content"], f"{where}.content")}


def _call(messages: list[Message], item: Item, where: str) -> None:
    """Calls belong to the assistant's message before them."""
    need(item, where, call_id=str, name=str, arguments=str)
    function = {"name": item["name"], "arguments": item["arguments"]}
    call = {"id": item["call_id"], "type": "function", "function": function}
    if messages and messages[-1].get("role") == "assistant":
        messages[-1] = {**messages[-1], "tool_calls": [*(messages[-1].get("tool_calls") or ()), call]}
    else:
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})


def _content(given: str | list[Any], where: str) -> str | list[dict[str, Any]]:
    """A message's content. One text is sent as a text: not every upstream takes lists."""
    if isinstance(given, str):
        return given
    parts = [_part(object_of(part, f"{where}[{n}]"), f"{where}[{n}]") for n, part in enumerate(given)]
    match parts:
        case []:
            return ""
        case [{"type": "text", "text": str(text)}]:
            return text
    return parts


def _part(part: Mapping[str, Any], where: str) -> dict[str, Any]:
    match part.get("type"):
        case "input_text" | "output_text":
            need(part, where, text=str)
            return {"type": "text", "text": part["text"]}
        case "refusal":
            need(part, where, refusal=str)
            return {"type": "refusal", "refusal": part["refusal"]}
        case "input_image":
            need(part, where, image_url=str)
            detail = {} if part.get("detail") is None else {"detail": part["detail"]}
            return {"type": "image_url", "image_url": {"url": part["image_url"], **detail}}
        case "input_file":
            need(part, where, file_data=str)
            return {"type": "file", "file": {name: part[name] for name in ("filename", "file_data") if part.get(name)}}
        case "input_audio":
            need(part, where, input_audio=dict)
            return {"type": "input_audio", "input_audio": part["input_audio"]}
    raise InvalidRequest(
        f"{where}.type must be input_text, output_text, refusal, input_image, input_file or input_audio.",
        param=f"{where}.type",
    )


# --- Messages to items


def items_of(messages: Iterable[Message], job_id: str) -> list[Item]:
    """What a job's model was given, as items; it does not matter in which dialect it was asked."""
    bare = job_id.removeprefix("job_")
    items = [item for message in messages for item in _as_items(message)]
    return [{"id": f"{_PREFIXES[item['type']]}_{bare}_in_{n}", **item} for n, item in enumerate(items)]


_PREFIXES = {"message": "msg", "function_call": "fc", "function_call_output": "fco"}


def _as_items(message: Message) -> list[Item]:
    role, content = message.get("role"), message.get("content")
    if role == "tool":
        output = content if isinstance(content, str) else _as_parts(content, "input_text")
        return [_done("function_call_output", call_id=message.get("tool_call_id"), output=output)]
    items = []
    if content is not None:
        parts = _as_parts(content, "output_text" if role == "assistant" else "input_text")
        items.append(_done("message", role=role, content=parts))
    for call in message.get("tool_calls") or ():
        match call:
            case {"id": call_id, "function": {"name": name, "arguments": arguments}}:
                items.append(_done("function_call", call_id=call_id, name=name, arguments=arguments))
    return items


def _done(kind: str, **fields: Any) -> Item:
    return {"type": kind, "status": "completed", **fields}


def _as_parts(content: Any, text_type: str) -> list[Any]:
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    return [_as_part(part, text_type) for part in content or ()]


def _as_part(part: Any, text_type: str) -> Any:
    match part:
        case {"type": "text", "text": text}:
            return {"type": text_type, "text": text} | ({"annotations": []} if text_type == "output_text" else {})
        case {"type": "image_url", "image_url": {"url": url, **rest}}:
            return {"type": "input_image", "image_url": url, "detail": rest.get("detail", "auto")}
        case {"type": "file", "file": dict(file)}:
            return {"type": "input_file", **file}
    return part


# --- Checks


def object_of(value: object, where: str, *, optional: bool = True) -> dict[str, Any]:
    """A value that must be an object; what is missing is an empty one where it is `optional`."""
    if value is None and optional:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequest(f"{where} must be an object.", param=where)
    return value


_NAMES = {str: "a text", dict: "an object", (str, list): "a text or a list"}


def need(given: Mapping[str, Any], where: str, **types: Any) -> None:
    """Raise InvalidRequest unless these fields are there and of these types."""
    for name, type_ in types.items():
        if not isinstance(given.get(name), type_):
            raise InvalidRequest(f"{where}.{name} must be {_NAMES[type_]}.", param=f"{where}.{name}")
