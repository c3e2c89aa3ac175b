"""Translate content of Responses' items into content of chat messages, and back. Pure.

Not here: the items around it (items.py).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.dialects.responses.checks import need, object_of
from shared.model.errors import InvalidRequest

Content = str | list[dict[str, Any]]


def content_of(given: str | list[Any], where: str) -> Content:
    """Translate an item's content. One text is sent as a text, because not every upstream takes lists.

    Raises:
        InvalidRequest: names the part and its valid form.
    """
    if isinstance(given, str):
        return given
    parts = [_part(object_of(part, f"{where}[{n}]"), f"{where}[{n}]") for n, part in enumerate(given)]
    match parts:
        case []:
            return ""
        case [{"type": "text", "text": str(text)}]:
            return text
    return parts


def result_of(given: str | list[Any], where: str) -> tuple[Content, list[dict[str, Any]]]:
    """Translate a tool's output: its texts, and the parts that chats take from users only, such as images.

    Raises:
        InvalidRequest: names the part and its valid form.
    """
    content = content_of(given, where)
    if isinstance(content, str):
        return content, []
    texts = [part for part in content if part["type"] == "text"]
    match texts:
        case [{"text": str(text)}]:
            return text, [part for part in content if part["type"] != "text"]
    return texts, [part for part in content if part["type"] != "text"]


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


def joined(contents: Sequence[Any]) -> Any:
    """Join the contents of one message. Texts are pieces of one text, so that nothing is put between them."""
    filled = [content for content in contents if content]
    if not filled:
        return contents[0]
    if all(isinstance(content, str) for content in filled):
        return "".join(filled)
    return [part for content in filled for part in _as_list(content)]


def _as_list(content: Content) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def parts_of(content: Any, text_type: str) -> list[Any]:
    """Translate a message's content back into parts; an unknown part is shown as it is."""
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    return [_shown(part, text_type) for part in content or ()]


def _shown(part: Any, text_type: str) -> Any:
    match part:
        case {"type": "text", "text": text}:
            return {"type": text_type, "text": text} | ({"annotations": []} if text_type == "output_text" else {})
        case {"type": "image_url", "image_url": {"url": url, **rest}}:
            return {"type": "input_image", "image_url": url, "detail": rest.get("detail", "auto")}
        case {"type": "file", "file": dict(file)}:
            return {"type": "input_file", **file}
    return part
