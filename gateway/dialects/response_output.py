"""What a response has said so far: its output's items and their parts, as they grow.

Above: dialects/responses.py, which makes events of it. Pure. Not here: sequence numbers, when a part
begins and ends.
"""

import json
from typing import Any

from shared.events import encode_data

# What each field of a delta is: the item's type, the part's type, what its events are called, the part's own field.
PARTS = {
    "reasoning_content": ("reasoning", "reasoning_text", "response.reasoning_text", "text"),
    "content": ("message", "output_text", "response.output_text", "text"),
    "refusal": ("message", "refusal", "response.refusal", "refusal"),
}
PREFIXES = {"message": "msg", "reasoning": "rs", "function_call": "fc"}


class Part:
    """A text that grows: a message's, a reasoning's, a refusal, or a call's arguments, without a `content_index`."""

    __slots__ = ("content_index", "logprobs", "name", "pieces", "place", "stem", "template", "text_field", "type")

    def __init__(self, name: str, item_id: str, output_index: int, content_index: int | None) -> None:
        _, self.type, self.stem, self.text_field = PARTS.get(
            name, ("", "", "response.function_call_arguments", "arguments")
        )
        self.name = name
        self.content_index = content_index
        self.pieces: list[bytes] = []
        self.logprobs: list[Any] = []
        self.place: dict[str, Any] = {"item_id": item_id, "output_index": output_index}
        if content_index is not None:
            self.place["content_index"] = content_index
        event = f"{self.stem}.delta"
        before = f'event: {event}\ndata: {{"type":"{event}","sequence_number":'
        place = encode_data(self.place)[1:-1]
        after = b'","logprobs":[]}\n\n' if self.type == "output_text" else b'"}\n\n'
        self.template = before.encode(), b',%s,"delta":"' % place, after

    @property
    def text(self) -> str:
        """All of it; halves of a character find each other here."""
        text: str = json.loads(b'"%s"' % b"".join(self.pieces))
        return text

    @property
    def empty(self) -> dict[str, Any]:
        """The part before anything is said."""
        return self._shape("", [])

    def as_dict(self) -> dict[str, Any]:
        """The part as it now is."""
        return self._shape(self.text, self.logprobs)

    def done(self) -> dict[str, Any]:
        """The data of the event that says the whole text."""
        data = {**self.place, self.text_field: self.text}
        if self.type == "output_text":
            data["logprobs"] = self.logprobs
        return data

    def _shape(self, text: str, logprobs: list[Any]) -> dict[str, Any]:
        shape: dict[str, Any] = {"type": self.type, self.text_field: text}
        if self.type == "output_text":
            shape |= {"annotations": [], "logprobs": logprobs}
        return shape


class OutputItem:
    """One item of a response's output, as far as it has come."""

    __slots__ = ("call_id", "id", "index", "name", "parts", "status", "type")

    def __init__(self, item_id: str, index: int, item_type: str) -> None:
        self.id = item_id
        self.index = index
        self.type = item_type
        self.status = "in_progress"
        self.parts: list[Part] = []
        self.call_id = self.name = ""

    def as_dict(self) -> dict[str, Any]:
        """The item as it now is."""
        head = {"id": self.id, "type": self.type, "status": self.status}
        if self.type == "function_call":
            return {**head, "call_id": self.call_id, "name": self.name, "arguments": self.parts[0].text}
        content = [part.as_dict() for part in self.parts]
        if self.type == "reasoning":
            return {**head, "summary": [], "content": content}
        return {**head, "role": "assistant", "content": content}
