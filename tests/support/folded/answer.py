"""The one form in which the replies of all dialects are compared, and the part of it that each dialect shows."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

DONE = b"[DONE]"


@dataclass(frozen=True)
class Call:
    """A tool call. `extra` are its further fields, if the dialect shows them."""

    id: str
    name: str
    arguments: str
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Trouble:
    """An error. `code` and `status` are None if the dialect lacks them."""

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


def counts(usage: Mapping[str, Any] | None, *names: str) -> tuple[int, int, int] | None:
    """The three counts of these names."""
    if usage is None:
        return None
    first, second, third = (usage[name] for name in names)
    return first, second, third


def failed(trouble: Trouble, raw: object = None) -> Answer:
    """A reply that is an error and nothing else."""
    return Answer(finish=None, trouble=trouble, raw=raw)


# Views: each removes the parts of an answer that its dialect can't show.


def without_extra(answer: Answer) -> Answer:
    """An answer without the further fields of its calls."""
    return replace(answer, calls=tuple(replace(call, extra={}) for call in answer.calls))


def in_completions(answer: Answer) -> Answer:
    """An answer in legacy completions."""
    return replace(answer.joined(), reasoning="", calls=())


def on_pages(answer: Answer) -> Answer:
    """An answer on a page of the AI SDK."""
    calls = (Call(call.id, call.name, canonical(call.arguments or "{}")) for call in answer.calls)
    return replace(answer.joined(), calls=tuple(calls))


def in_transcripts(answer: Answer) -> Answer:
    """An answer in the command line's transcript."""
    return replace(answer.joined(), calls=tuple(Call("", call.name, call.arguments) for call in answer.calls))


def in_pipes(answer: Answer) -> Answer:
    """An answer that `tailrace submit` writes to a pipe."""
    calls = tuple(Call("", call.name, "") for call in answer.calls)
    joined = answer.joined()
    return replace(joined, text=joined.text.removesuffix("\n"), reasoning="", calls=calls)
