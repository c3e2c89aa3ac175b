"""Hold the items of a response's output and their parts, as they grow. Pure.

Not here: their events (writer.py), sequence numbers, and when a part begins or ends.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.dialects.responses.custom_input import CustomInput
from shared.model.events import encode_data

_TEMPLATE_TAIL = b'"}\n\n'


@dataclass(frozen=True, slots=True)
class PartKind:
    """Describe a text that grows: the type of its item, its own type, its events' name, its field and its numbering.

    `numbered_by` is empty for the text of a call, which has no parts.
    """

    item_type: str
    type: str
    event: str
    text_field: str = "text"
    numbered_by: str = "content_index"
    part_event: str = "response.content_part"


TEXTS = {
    "reasoning_content": PartKind("reasoning", "reasoning_text", "response.reasoning_text"),
    "content": PartKind("message", "output_text", "response.output_text"),
    "refusal": PartKind("message", "refusal", "response.refusal", "refusal"),
}
"""The kind of part that each text of a delta is."""
SUMMARY = PartKind(
    "reasoning",
    "summary_text",
    "response.reasoning_summary_text",
    numbered_by="summary_index",
    part_event="response.reasoning_summary_part",
)
ARGUMENTS = PartKind("function_call", "", "response.function_call_arguments", "arguments", "")
INPUT = PartKind("custom_tool_call", "", "response.custom_tool_call_input", "input", "")
_PREFIXES = {"message": "msg", "reasoning": "rs", "function_call": "fc", "custom_tool_call": "ctc"}


class OutputItem:
    """One item of a response's output. `parts` are a message's or the reasoning's, or the one text of a call."""

    __slots__ = ("_head", "decoder", "extra", "id", "index", "parts", "status", "summary", "type")

    def __init__(self, bare_id: str, index: int, item_type: str, **head: Any) -> None:
        self.id = f"{_PREFIXES[item_type]}_{bare_id}_{index}"
        self.index = index
        self.type = item_type
        self.status = "in_progress"
        self.parts: list[OutputPart] = []
        self.summary: OutputPart | None = None
        self.extra: dict[str, Any] = {}
        """The further fields of an upstream's call, which its caller sends back."""
        self.decoder: CustomInput | None = None
        self._head = head

    def as_dict(self) -> dict[str, Any]:
        """Return the item as it now is."""
        head = {"id": self.id, "type": self.type, "status": self.status, **self._head}
        if self.type == "message":
            return {**head, "role": "assistant", "content": self._content()}
        if self.type == "reasoning":
            summary = [] if self.summary is None else [self.summary.as_dict()]
            return {**head, "summary": summary, "content": self._content()}
        (part,) = self.parts
        call = {**head, part.kind.text_field: part.text}
        return {**call, **{name: value for name, value in self.extra.items() if name not in call}}

    def _content(self) -> list[dict[str, Any]]:
        return [part.as_dict() for part in self.parts]


class OutputPart:
    """Hold a text that grows, at its place in the output."""

    __slots__ = ("annotations", "kind", "logprobs", "pieces", "place", "template")

    def __init__(self, kind: PartKind, item: OutputItem, number: int = 0) -> None:
        self.kind = kind
        self.pieces: list[bytes] = []
        self.logprobs: list[Any] = []
        self.annotations: list[Mapping[str, Any]] = []
        self.place: dict[str, Any] = {"item_id": item.id, "output_index": item.index}
        if kind.numbered_by:
            self.place[kind.numbered_by] = number
        event = f"{kind.event}.delta"
        before = f'event: {event}\ndata: {{"type":"{event}","sequence_number":'
        place = encode_data(self.place)[1:-1]
        after = b'","logprobs":[]}\n\n' if self._is_output_text else _TEMPLATE_TAIL
        self.template = before.encode(), b',%s,"delta":"' % place, after

    @property
    def text(self) -> str:
        """Return the whole text; the halves of a split character are joined here."""
        text: str = json.loads(b'"%s"' % b"".join(self.pieces))
        return text

    @property
    def empty(self) -> dict[str, Any]:
        """Return the part before its text begins."""
        return self._shape("", [], [])

    def as_dict(self) -> dict[str, Any]:
        """Return the part as it now is."""
        return self._shape(self.text, self.annotations, self.logprobs)

    def done(self) -> dict[str, Any]:
        """Return the data of the event that has the whole text."""
        data = {**self.place, self.kind.text_field: self.text}
        if self._is_output_text:
            data["logprobs"] = self.logprobs
        return data

    @property
    def _is_output_text(self) -> bool:
        return self.kind.type == "output_text"

    def _shape(self, text: str, annotations: list[Mapping[str, Any]], logprobs: list[Any]) -> dict[str, Any]:
        shape: dict[str, Any] = {"type": self.kind.type, self.kind.text_field: text}
        if self._is_output_text:
            shape |= {"annotations": annotations, "logprobs": logprobs}
        return shape
