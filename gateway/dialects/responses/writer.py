"""Write the output of a response: a job's deltas in, the events of its items and parts out. Pure.

Not here: how a response begins and ends (stream.py).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.dialects.call_fragments import CallFragment, add_extra, call_fragments
from gateway.dialects.responses.annotations import annotations_of
from gateway.dialects.responses.custom_input import CustomInput
from gateway.dialects.responses.frames import ResponseFrames
from gateway.dialects.responses.object import ResponseOptions
from gateway.dialects.responses.output import ARGUMENTS, INPUT, SUMMARY, TEXTS, OutputItem, OutputPart
from gateway.dialects.responses.tools import ToolNames
from shared.model.events import encode_data

_CLOSED = b"\x00"
"""A prefix that no delta has."""
_ANNOTATION = "response.output_text.annotation.added"


class OutputWriter:
    """Write one response's items. A message or the reasoning is open until another item begins, calls until the end."""

    def __init__(self, options: ResponseOptions, frames: ResponseFrames) -> None:
        self.items: list[OutputItem] = []
        self._frames = frames
        self._bare_id = options.bare_id
        self._summarised = options.wants_summary
        self._tools = ToolNames.of(options.asked)
        self._open: OutputItem | None = None
        self._plain = _CLOSED
        """The beginning of a delta that is one more piece of the open part, up to its text."""
        self._calls: dict[int, OutputItem] = {}
        self._annotations: list[Mapping[str, Any]] = []
        """Those that arrived before the text that they belong to."""

    def output(self) -> list[dict[str, Any]]:
        """Return the items as they now are."""
        return [item.as_dict() for item in self.items]

    def plain_text(self, data: bytes) -> bytes | None:
        """Return the inside of a delta's JSON string, if it is one short piece of the open part and nothing else."""
        if data.startswith(self._plain) and data.find(b'"', len(self._plain)) == len(data) - 2:
            return data[len(self._plain) : -2]
        return None

    def say(self, text: bytes, logprobs: Sequence[Any] = ()) -> bytes:
        """Add a piece to the open part; `text` is the inside of its JSON string."""
        assert self._open is not None  # noqa: S101  # the callers have opened it
        frame = self._add_piece(self._open.parts[-1], text, logprobs)
        if (summary := self._open.summary) is not None:
            frame += self._add_piece(summary, text, ())
        return frame

    def delta(self, delta: Mapping[str, Any]) -> bytes:
        """Write the events of one delta."""
        frames = []
        for name in TEXTS:
            if isinstance(text := delta.get(name), str):
                frames.append(self._open_part(name))
                frames.append(self.say(encode_data(text)[1:-1], _logprobs(delta) if name == "content" else ()))
        if "annotations" in delta:
            self._annotations += annotations_of(delta)
            frames.append(self._annotate())
        if "tool_calls" in delta:
            frames += [self._call(fragment) for fragment in call_fragments(delta)]
        return b"".join(frames)

    def forget(self) -> None:
        """Forget the output that was not shown yet: the answer begins again."""
        self._annotations.clear()

    def close(self, status: str) -> bytes:
        """Complete all items, with this status."""
        # Calls stay open to the end, since an upstream may alternate their pieces; text may stand before them.
        spoken = self._close_spoken(status)
        return spoken + b"".join(self._close_call(item, status) for item in self._calls.values())

    # Words.

    def _open_part(self, name: str) -> bytes:
        kind, item = TEXTS[name], self._open
        if item is not None and item.parts[-1].kind is kind:
            return b""
        if item is not None and item.type == kind.item_type:
            frames = self._close_part(item.parts[-1])
        else:
            frames = self._close_spoken("completed")
            item = self._open = OutputItem(self._bare_id, len(self.items), kind.item_type)
            frames += self._add(item)
        self._plain = b'{"%s":"' % name.encode()
        part = OutputPart(kind, item, len(item.parts))
        item.parts.append(part)
        frames += self._add_part(part)
        if kind.item_type == "reasoning" and self._summarised:
            item.summary = OutputPart(SUMMARY, item)
            frames += self._add_part(item.summary)
        return frames + self._annotate()

    def _annotate(self) -> bytes:
        """Add the waiting annotations to the open text, each once. Without an open text they wait for the next."""
        part = None if self._open is None else self._open.parts[-1]
        if part is None or part.kind is not TEXTS["content"]:
            return b""
        frames = []
        for annotation in self._annotations:
            if annotation not in part.annotations:
                about = {"annotation_index": len(part.annotations), "annotation": annotation}
                part.annotations.append(annotation)
                frames.append(self._frames.event(_ANNOTATION, {**part.place, **about}))
        self._annotations.clear()
        return b"".join(frames)

    def _close_spoken(self, status: str) -> bytes:
        item, self._open = self._open, None
        self._plain = _CLOSED
        if item is None:
            return b""
        frames = self._close_part(item.parts[-1])
        if item.summary is not None:
            frames += self._close_part(item.summary)
        return frames + self._close_item(item, status)

    # Calls.

    def _call(self, fragment: CallFragment) -> bytes:
        frames = b""
        if (item := self._calls.get(fragment.number)) is None:
            if not fragment.name:
                return b""
            frames = self._close_spoken("completed")
            item = self._calls[fragment.number] = self._new_call(fragment)
            frames += self._add(item)
        else:
            add_extra(item.extra, fragment)
        text = fragment.text if item.decoder is None else item.decoder.feed(fragment.text)
        return frames + self._add_text(item, text)

    def _new_call(self, fragment: CallFragment) -> OutputItem:
        declared = self._tools.declaration(fragment.name)
        head = {"call_id": fragment.id, "name": declared.name}
        if declared.namespace is not None:
            head["namespace"] = declared.namespace
        kind = INPUT if fragment.custom or declared.custom else ARGUMENTS
        item = OutputItem(self._bare_id, len(self.items), kind.item_type, **head)
        item.parts.append(OutputPart(kind, item))
        add_extra(item.extra, fragment)
        if declared.custom and not fragment.custom:
            item.decoder = CustomInput()
        return item

    def _close_call(self, item: OutputItem, status: str) -> bytes:
        rest = "" if item.decoder is None else item.decoder.end()
        return self._add_text(item, rest) + self._close_part(item.parts[0]) + self._close_item(item, status)

    def _add_text(self, item: OutputItem, text: str) -> bytes:
        return self._add_piece(item.parts[0], encode_data(text)[1:-1], ()) if text else b""

    # Events.

    def _add(self, item: OutputItem) -> bytes:
        self.items.append(item)
        return self._frames.built(
            "response.output_item.added", lambda: {"output_index": item.index, "item": item.as_dict()}
        )

    def _add_part(self, part: OutputPart) -> bytes:
        return self._frames.event(f"{part.kind.part_event}.added", {**part.place, "part": part.empty})

    def _add_piece(self, part: OutputPart, text: bytes, logprobs: Sequence[Any]) -> bytes:
        part.pieces.append(text)
        template = part.template
        if logprobs:
            part.logprobs += logprobs
            template = *template[:2], b'","logprobs":%s}\n\n' % encode_data(logprobs)
        return self._frames.delta(template, text)

    def _close_part(self, part: OutputPart) -> bytes:
        done = self._frames.built(f"{part.kind.event}.done", part.done)
        if not part.kind.numbered_by:
            return done
        return done + self._frames.built(f"{part.kind.part_event}.done", lambda: {**part.place, "part": part.as_dict()})

    def _close_item(self, item: OutputItem, status: str) -> bytes:
        item.status = status
        return self._frames.built(
            "response.output_item.done", lambda: {"output_index": item.index, "item": item.as_dict()}
        )


def _logprobs(delta: Mapping[str, Any]) -> list[Any]:
    logprobs = delta.get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    return content if isinstance(content, list) else []
