"""One choice of a streamed or whole chat completion: the upstream's parts in, deltas of one form out.

The form: texts under `content`, `reasoning_content` and `refusal`, whole characters only; tool calls as
tool_calls.py has them; further fields of the delta as they came; the choice's own under `choice_extra`.
Pure. Not here: the chunk around the choice (chunk_reader.py).
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

from shared.model.bounds import EXTRA_FIELDS, UNSAID_PIECES
from shared.model.errors import AttemptFailed, ProviderGarbage
from shared.model.events import PIECES
from shared.model.text import is_whole
from worker.upstream.wire.finish_reasons import BrokenOff, finish_reason
from worker.upstream.wire.plain_values import plain
from worker.upstream.wire.texts import Span, TextField, TextReader, read_spans
from worker.upstream.wire.tool_calls import ToolCallReader

Delta = dict[str, Any]
Refuse = Callable[[object], AttemptFailed]
"""Make the error of an attempt from an upstream's error object."""

# The order in which dialects show the texts of one delta.
_ORDER: Final[dict[TextField, int]] = {"reasoning_content": 0, "content": 1, "refusal": 2}
# Upstreams' names for the same thoughts, the likeliest first.
_THOUGHTS = ("reasoning_content", "reasoning", "reasoning_text", "thinking")
# The role is shown once, by each dialect. The others are read here, or are Tailrace's own.
_READ = frozenset({"role", "content", "refusal", *_THOUGHTS, "tool_calls", "function_call"})
_OWN = frozenset({"index", "logprobs", "content_parts", "choice_extra", "chunk_extra"})
_KNOWN = frozenset({"index", "delta", "message", "text", "finish_reason", "logprobs", "usage", "error"})
_PLAIN_CHOICE = frozenset({"index", "delta", "finish_reason", "logprobs"})
_PLAIN_DELTA = frozenset({"role", "content", "reasoning_content"})
_CUT_OFF = ("length", "content_filter")


class ChoiceReader:
    """The choice with this index. `make_id` makes the ids of calls that have none."""

    def __init__(self, index: int, make_id: Callable[[], str], refuse: Refuse) -> None:
        self._index = index
        self._refuse = refuse
        self._texts = {field: TextReader() for field in _ORDER}
        self._calls = ToolCallReader(make_id)
        self._spoke = False
        self._message: Delta | None = None
        self._in_pieces = False
        self._sent_extra: dict[str, Any] = {}
        self._extra: dict[str, Any] = {}
        self._waits = False
        """Whether half a character or further fields wait for the next delta."""

    def read(self, choice: dict[str, Any]) -> tuple[list[Delta], str | None]:
        """Read a chunk's part of this choice; the finish reason is None until the choice ends.

        Raises:
            AttemptFailed: the choice has an error, or its finish reason is one.
            ProviderGarbage: it is not a choice of a chat completion.
        """
        if (delta := self.plain(choice)) is not None:
            return [delta], None
        if error := choice.get("error"):
            raise self._refuse(error)
        reason = self._reason(choice)
        if not choice.keys() <= _KNOWN:
            self._note_extra({name: value for name, value in choice.items() if name not in _KNOWN})
        deltas = self._said(choice)
        self._spoke = self._spoke or bool(deltas)
        if reason is not None:
            deltas += self._finish(cut_off=reason in _CUT_OFF)
        elif not deltas:
            return [], None
        return self._dressed(deltas, final=reason is not None), reason

    def end(self) -> list[Delta]:
        """Return the deltas that are left at the end of the stream.

        Half a character of a choice that has not finished is left out: another attempt may continue before it.
        """
        return self._dressed(self._whole_message(), final=True)

    def plain(self, choice: dict[str, Any]) -> Delta | None:
        """Return the delta of a choice that says a piece of text and nothing else: nearly every token."""
        delta = choice.get("delta")
        if self._waits or type(delta) is not dict or not delta.keys() <= _PLAIN_DELTA:
            return None
        field, text = "content", delta.get("content")
        if thoughts := delta.get("reasoning_content"):
            if text:
                return None
            field, text = "reasoning_content", thoughts
        if not text or type(text) is not str or not choice.keys() <= _PLAIN_CHOICE or not is_whole(text):
            return None
        if choice.get("finish_reason") or choice.get("logprobs"):
            return None
        self._spoke = True
        return {field: text, "index": self._index} if self._index else {field: text}

    def _reason(self, choice: dict[str, Any]) -> str | None:
        given = choice.get("finish_reason")
        try:
            reason = finish_reason(given)
        except BrokenOff as word:
            raise self._refuse({"message": f"The answer broke off (finish reason {word})."}) from None
        if reason is not None and reason != given and given != "function_call":
            self._note_extra({"native_finish_reason": given})
        return reason

    # The contents of a delta or message.

    def _said(self, choice: dict[str, Any]) -> list[Delta]:
        raw = choice.get("delta")
        if raw is None and isinstance(text := choice.get("text"), str):
            raw = {"content": text}
        if raw is not None and not isinstance(raw, dict):
            raise ProviderGarbage("The provider sent a delta that is not an object.")
        before: list[Delta] = []
        message = choice.get("message")
        if isinstance(message, dict) and not raw:
            before, raw = self._take_message(message)
        logprobs = choice.get("logprobs")
        logprobs = logprobs if isinstance(logprobs, dict) and any(logprobs.values()) else None
        return [*before, *self._read(raw or {}, logprobs)]

    def _take_message(self, message: Delta) -> tuple[list[Delta], Delta | None]:
        """Hold a whole message back until the choice ends: deltas may follow, and they count.

        Messages that do not extend one another are pieces: return the one held back, and this one as a delta.
        """
        former = self._message
        if not self._in_pieces:
            if former is None or self._spoke or _extends(message, former):
                if any(value for name, value in message.items() if name != "role"):
                    self._message = message
                return [], None
            self._in_pieces = True
            return self._whole_message(), message
        return [], message

    def _read(self, raw: Delta, logprobs: dict[str, Any] | None = None) -> list[Delta]:
        deltas: list[Delta] = [{}]
        for span in _spans(raw):
            if isinstance(span, Span):
                self._add_text(deltas, span)
            elif span:
                deltas[-1].setdefault("content_parts", []).append(plain(span))
        _add_calls(deltas, self._read_calls(raw))
        last = deltas[-1]
        if not raw.keys() <= _READ:
            # A value that is null or empty says nothing.
            last |= {name: plain(value) for name, value in raw.items() if value and name not in _READ | _OWN}
        if logprobs is not None:
            last["logprobs"] = plain(logprobs)
        return [delta for delta in deltas if delta]

    def _add_text(self, deltas: list[Delta], span: Span) -> None:
        reader = self._texts[span.field]
        text = reader.read(span.text)
        self._waits = self._waits or reader.waits
        if not text:
            return
        if any(_ORDER[field] > _ORDER[span.field] for field in _ORDER if field in deltas[-1]):
            deltas.append({})
        deltas[-1][span.field] = deltas[-1].get(span.field, "") + text

    def _read_calls(self, raw: Delta) -> list[Delta]:
        calls = self._calls.read(given) if (given := raw.get("tool_calls")) else []
        if (legacy := raw.get("function_call")) and not given:
            calls += self._calls.read_legacy(legacy)
        return calls

    def _finish(self, *, cut_off: bool) -> list[Delta]:
        """Return the parts that waited for the end: a whole message, halves of characters and of calls."""
        deltas = self._whole_message()
        left: list[Delta] = [{field: text for field, reader in self._texts.items() if (text := reader.end())}]
        _add_calls(left, self._calls.end(cut_off=cut_off))
        return [*deltas, *left] if left[0] else deltas

    def _whole_message(self) -> list[Delta]:
        """Return the message if no delta ever came."""
        message, self._message = self._message, None
        if message is None or self._spoke:
            return []
        self._spoke = True
        return self._read(message)

    # Further fields of the choice.

    def _note_extra(self, fields: dict[str, Any]) -> None:
        for name, value in fields.items():
            if name in PIECES:
                if isinstance(value, list) and value:
                    pieces = self._extra.setdefault(name, [])
                    pieces.extend(plain(value))
                    if len(pieces) > UNSAID_PIECES:
                        raise ProviderGarbage(f"The provider sent {UNSAID_PIECES} {name} without a delta.")
                    self._waits = True
            elif value is not None and self._sent_extra.get(name) != value:
                self._sent_extra[name] = value
                self._extra[name] = plain(value)
                self._waits = True
        if len(self._sent_extra) > EXTRA_FIELDS:
            raise ProviderGarbage(f"The provider sent more than {EXTRA_FIELDS} further fields of a choice.")

    def _dressed(self, deltas: list[Delta], *, final: bool) -> list[Delta]:
        """Add the further fields and the index; a final delta carries the fields that no other can."""
        if self._extra and (deltas or final):
            deltas = deltas or [{}]
            deltas[-1]["choice_extra"], self._extra = self._extra, {}
        self._waits = any(reader.waits for reader in self._texts.values())
        if self._index:
            for delta in deltas:
                delta["index"] = self._index
        return deltas


def _extends(message: Delta, former: Delta) -> bool:
    """Return whether a message is the former one as far as it has come since, and not the next piece of it."""
    text, before = message.get("content"), former.get("content")
    return not before or (isinstance(text, str) and isinstance(before, str) and text.startswith(before))


def _add_calls(deltas: list[Delta], fragments: list[Delta]) -> None:
    """Add one fragment to the last delta, and a delta for each further one: some clients read only the first."""
    for fragment in fragments:
        if "tool_calls" in deltas[-1]:
            deltas.append({})
        deltas[-1]["tool_calls"] = [fragment]


def _spans(raw: Delta) -> Iterator[Span | Any]:
    """Read the texts of a delta or message, in the order in which they are to be shown."""
    thoughts = next((raw[name] for name in _THOUGHTS if raw.get(name)), None)
    for value, field in (
        (thoughts, "reasoning_content"),
        (raw.get("content"), "content"),
        (raw.get("refusal"), "refusal"),
    ):
        if value:
            yield from read_spans(value, field)  # type: ignore[arg-type]  # a literal in a tuple
