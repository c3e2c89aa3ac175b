"""Ways in which upstreams write one known answer: any fragments, fields, field orders and framings.

`answers()` is a strategy of answers, `spelled` writes one in a way that a random number chooses. Pure. Not here: the
readers (tests/property/test_one_reader.py).
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from hypothesis import strategies as st

from tests.support.folded import Answer, Call

TEXT, THOUGHT, REFUSAL = "content", "reasoning_content", "refusal"
Delta = dict[str, Any]

# A delta is a carrier of halves of characters: emoji are frequent.
_words = st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from('🌊😀ab \n"\\')), min_size=1, max_size=8)
_values = st.one_of(st.integers(-9, 9), st.booleans(), st.none(), _words, st.lists(st.integers(0, 9), max_size=2))
_objects = st.dictionaries(st.text("abc", min_size=1, max_size=2), _values, max_size=3)


@dataclass(frozen=True)
class Words:
    """A run of words of one kind."""

    kind: str
    text: str


@dataclass(frozen=True)
class Choice:
    """One choice of an answer: runs of words, then calls, then its end. Calls with an empty id have none."""

    words: tuple[Words, ...]
    calls: tuple[Call, ...]
    finish: str

    @property
    def answer(self) -> Answer:
        """The choice, folded."""
        texts = {kind: "".join(run.text for run in self.words if run.kind == kind) for kind in (TEXT, THOUGHT, REFUSAL)}
        return Answer(texts[TEXT], texts[THOUGHT], texts[REFUSAL], self.calls, self.finish)


@st.composite
def _calls(draw: st.DrawFn) -> tuple[Call, ...]:
    named = draw(st.booleans())
    found = []
    for number in range(draw(st.integers(0, 3))):
        extra = draw(st.sampled_from([{}, {}, {"extra_content": {"google": {"thought_signature": f"s{number}"}}}]))
        arguments = json.dumps(draw(_objects), separators=(",", ":"), ensure_ascii=False)
        found.append(Call(f"c{number}" if named else "", draw(st.sampled_from(["look", "find"])), arguments, extra))
    return tuple(found)


@st.composite
def _choices(draw: st.DrawFn) -> Choice:
    runs = draw(st.lists(st.builds(Words, st.sampled_from([TEXT, TEXT, THOUGHT, REFUSAL]), _words), max_size=4))
    calls = draw(_calls())
    finish = "tool_calls" if calls else draw(st.sampled_from(["stop", "stop", "length", "content_filter"]))
    # Dialects without refusals show them as text, in the order in which they came.
    return Choice(tuple(sorted(runs, key=lambda run: run.kind == REFUSAL)), calls, finish)


def answers() -> st.SearchStrategy[list[Choice]]:
    """An answer of one to three choices."""
    return st.lists(_choices(), min_size=1, max_size=3)


def spelled(choices: Sequence[Choice], rng: Random) -> list[bytes]:
    """One way to write an answer, in pieces."""
    body = _document(choices, rng) if rng.random() < 0.2 else _framed(list(_chunks(choices, rng)), rng)
    cuts = _cuts(body, rng)
    return [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]


def _cuts(body: bytes, rng: Random) -> list[int]:
    """Places at which a body is cut: some, the places inside line ends and other marks, or all of them."""
    match rng.randrange(4):
        case 0:
            return list(range(1, len(body)))
        case 1:
            return [
                at for at in range(1, len(body)) if body[at - 1] in b"\r\xef\xbb" or body[at - 1 : at + 1] == b"\n\n"
            ]
        case _:
            return sorted(rng.sample(range(1, len(body)), min(len(body) - 1, rng.choice([0, 1, 5]))))


# --- Words


def _pieces(text: str, rng: Random) -> list[str]:
    """A text in pieces that may part a surrogate pair, as those of UTF-16 languages do."""
    units = text.encode("utf-16-le")
    most = len(units) // 2
    cuts = sorted(rng.sample(range(1, most), min(most - 1, rng.randrange(4)))) if most > 1 else []
    edges = zip([0, *cuts], [*cuts, most], strict=True)
    return [units[2 * start : 2 * end].decode("utf-16-le", "surrogatepass") for start, end in edges]


_THOUGHT_NAMES = (THOUGHT, "reasoning", "reasoning_text", "thinking")
_IN_A_LIST = "list"


def _word_deltas(runs: Sequence[Words], rng: Random) -> Iterator[Delta]:
    """The deltas of all runs: thoughts and refusals in fields of their own, or as parts of the content's list."""
    thoughts, refusals = rng.choice([*_THOUGHT_NAMES, _IN_A_LIST]), rng.choice([REFUSAL, _IN_A_LIST])
    for run in runs:
        for piece in _pieces(run.text, rng):
            match run.kind:
                case "content":
                    part = {"type": rng.choice(["text", "output_text"]), "text": piece}
                    yield {TEXT: [part] if rng.random() < 0.3 else piece}
                case "reasoning_content" if thoughts == _IN_A_LIST:
                    inner: Any = piece if rng.random() < 0.5 else [{"type": "text", "text": piece}]
                    yield {TEXT: [{"type": "thinking", "thinking": inner}]}
                case "refusal" if refusals == _IN_A_LIST:
                    yield {TEXT: [{"type": "refusal", "refusal": piece}]}
                case kind:
                    yield {thoughts if kind == THOUGHT else kind: piece}


# --- Tool calls


@dataclass(frozen=True)
class _Manner:
    """How one upstream writes fragments. Only manners in which each fragment has one meaning."""

    index: str
    id: str
    name: str
    arguments: str
    typed: bool
    in_turns: bool


def _manner(named: bool, rng: Random) -> _Manner:
    index = rng.choice(["number", "text", "null", "absent", "same"] if named else ["number", "text", "absent"])
    counted = index in ("number", "text")
    id_ = rng.choice(["once", "every"]) if named else rng.choice(["empty", "null", "absent"])
    told_apart = counted or id_ == "every"
    name = rng.choice(["first", "late", "every"]) if told_apart else "first"
    arguments = rng.choice(["pieces", "pieces", "object"])
    return _Manner(index, id_, name, arguments, rng.random() < 0.7, told_apart and rng.random() < 0.3)


def _fragments(call: Call, number: int, manner: _Manner, rng: Random) -> list[Delta]:
    whole: Any = json.loads(call.arguments) if manner.arguments == "object" else None
    pieces = _pieces(call.arguments, rng)
    if (manner.index != "absent" or call.id) and rng.random() < 0.5:
        pieces.insert(0, "")  # without index and id, it could be the same call's name again
    bodies: list[Delta] = [{"arguments": each} for each in ([whole] if whole is not None else pieces)]
    named = 0
    if manner.name == "late":
        bodies.insert(0, {})
        named = rng.randrange(1, len(bodies))
    for at, body in enumerate(bodies):
        if at == named or manner.name == "every":
            body["name"] = call.name
    fragments: list[Delta] = [{"function": body} if body else {} for body in bodies]
    for at, fragment in enumerate(fragments):
        fragment |= _place(number, manner)
        if at == 0 or manner.id == "every":
            fragment |= _ids.get(manner.id, {"id": call.id})
        if at == 0:
            fragment |= call.extra
            fragment |= {"type": "function"} if manner.typed else {}
    return fragments


_ids: dict[str, Delta] = {"empty": {"id": ""}, "null": {"id": None}, "absent": {}}


def _place(number: int, manner: _Manner) -> Delta:
    match manner.index:
        case "number":
            return {"index": number}
        case "text":
            return {"index": str(number)}
        case "null":
            return {"index": None}
        case "same":
            return {"index": 0}
        case _:
            return {}


def _call_deltas(calls: Sequence[Call], rng: Random) -> Iterator[Delta]:
    if len(calls) == 1 and not calls[0].id and not calls[0].extra and rng.random() < 0.3:
        yield from _legacy_deltas(calls[0], rng)
        return
    manner = _manner(any(call.id for call in calls), rng)
    written = [_fragments(call, number, manner, rng) for number, call in enumerate(calls)]
    fragments = (
        _in_turns(written, rng)
        if manner.in_turns and manner.name != "late"
        else [each for call in written for each in call]
    )
    while fragments:
        count = rng.choice([1, 1, 2])
        yield {"tool_calls": fragments[:count]}
        fragments = fragments[count:]


def _in_turns(written: Sequence[list[Delta]], rng: Random) -> list[Delta]:
    """Fragments of several calls in turns. Calls are named in their order, since that is the order of the calls."""
    begun = [call.pop(0) for call in written]
    rest = [number for number, call in enumerate(written) for _ in call]
    rng.shuffle(rest)
    return [*begun, *(written[number].pop(0) for number in rest)]


def _legacy_deltas(call: Call, rng: Random) -> Iterator[Delta]:
    first, *rest = _pieces(call.arguments, rng)
    yield {"function_call": {"name": call.name, "arguments": first}}
    for piece in rest:
        yield {"function_call": {"arguments": piece}}


# --- Choices and chunks


def _choice_deltas(choice: Choice, rng: Random) -> Iterator[Delta]:
    """The deltas of a choice, some of them joined, some with fields that say nothing."""
    waiting: Delta = {"role": "assistant"} if rng.random() < 0.7 else {}
    for delta in (*_word_deltas(choice.words, rng), *_call_deltas(choice.calls, rng)):
        if waiting and (waiting.keys() & delta.keys() or rng.random() < 0.6):
            yield waiting
            waiting = {}
        waiting |= delta
        for name, value in _NOTHING[rng.randrange(len(_NOTHING))].items() if rng.random() < 0.2 else ():
            waiting.setdefault(name, value)
    if waiting:
        yield waiting


_NOTHING: tuple[Delta, ...] = (
    {"content": ""},
    {"content": None, "refusal": None, "tool_calls": None, "function_call": None},
    {"tool_calls": []},
    {"reasoning_content": None},
    {"role": "assistant"},
    {},
)


def _index(number: int, rng: Random) -> Delta:
    return rng.choice(
        [{"index": number}, {"index": number}, {"index": str(number)}, {} if number == 0 else {"index": number}]
    )


def _entries(choice: Choice, number: int, rng: Random) -> list[Delta]:
    """A choice in the form of the entries of `choices`, of which the last one has the finish reason."""
    deltas: list[Any] = list(_choice_deltas(choice, rng))
    if not deltas or rng.random() < 0.6:
        deltas.append(rng.choice([{}, None, {"content": ""}]))
    entries = [{**_index(number, rng), "delta": each, "finish_reason": rng.choice([None, ""])} for each in deltas]
    entries[-1]["finish_reason"] = choice.finish
    return entries


def _chunks(choices: Sequence[Choice], rng: Random) -> Iterator[Delta]:
    """The chunks of all choices, in turns."""
    rest = [_entries(choice, number, rng) for number, choice in enumerate(choices)]
    turns = [number for number, entries in enumerate(rest) for _ in entries]
    rng.shuffle(turns)
    together: list[Delta] = []
    for number in turns:
        if rng.random() < 0.1:
            yield rng.choice([{}, {"choices": []}, {"id": "x", "choices": None}])
        together.append(rest[number].pop(0))
        if rng.random() < 0.7:
            yield {"object": "chat.completion.chunk", "choices": _counted(together)}
            together = []
    yield {"object": "chat.completion.chunk", "choices": _counted(together)}


def _counted(entries: list[Delta]) -> list[Delta]:
    """The entries of one chunk: several say which choice they belong to, since without an index they are counted."""
    return entries if len(entries) == 1 else [{**each, "index": each.get("index") or 0} for each in entries]


def _document(choices: Sequence[Choice], rng: Random) -> bytes:
    """The whole answer as one completion: a document, or an event."""
    entries = [_whole(choice, number, rng) for number, choice in enumerate(choices)]
    completion = _shuffled({"id": "x", "object": "chat.completion", "model": "m", "choices": entries}, rng)
    if rng.random() < 0.5:
        return _framed([completion], rng)
    return (_mark(rng) + json.dumps(completion, indent=rng.choice([None, 2]))).encode()


def _whole(choice: Choice, number: int, rng: Random) -> Delta:
    answer = choice.answer
    text: Any = [{"type": "text", "text": answer.text}] if answer.text and rng.random() < 0.3 else answer.text
    message: Delta = {"role": "assistant", "content": text or None}
    if answer.reasoning:
        message[rng.choice(_THOUGHT_NAMES)] = answer.reasoning
    if answer.refusal:
        message["refusal"] = answer.refusal
    if answer.calls:
        message["tool_calls"] = [_whole_call(call, rng) for call in answer.calls]
    return {**_index(number, rng), "message": message, "finish_reason": choice.finish}


def _whole_call(call: Call, rng: Random) -> Delta:
    arguments: Any = json.loads(call.arguments) if rng.random() < 0.3 else call.arguments
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}, **call.extra}


# --- Framings


def _shuffled(value: Any, rng: Random) -> Any:
    """The same value with the fields of its objects in another order."""
    if isinstance(value, dict):
        names = list(value)
        rng.shuffle(names)
        return {name: value[name] if name == "arguments" else _shuffled(value[name], rng) for name in names}
    return [_shuffled(each, rng) for each in value] if isinstance(value, list) else value


def _encoded(value: Any, rng: Random, *, lines: bool) -> str:
    escaped = rng.random() < 0.5
    text = json.dumps(value, indent=rng.choice([None, 1]) if lines else None, ensure_ascii=escaped)
    try:
        text.encode()
    except UnicodeEncodeError:  # a half of a pair can only be escaped
        return json.dumps(value)
    return text


def _framed(chunks: Sequence[Delta], rng: Random) -> bytes:
    """Chunks as an event stream, or as lines of JSON."""
    shuffled = [_shuffled(chunk, rng) for chunk in chunks]
    if rng.random() < 0.15:
        end = rng.choice(["\n", "\r\n"])
        return (_mark(rng) + "".join(_encoded(chunk, rng, lines=False) + end for chunk in shuffled)).encode()
    space = rng.choice(["", " "])
    lines = ["", *(line for chunk in shuffled for line in _event(_encoded(chunk, rng, lines=True), space, rng))]
    lines += [f"data:{space}[DONE]", "", ""] if rng.random() < 0.8 else [""]
    return (_mark(rng) + rng.choice(["\n", "\r\n", "\r"]).join(lines[1:])).encode()


def _mark(rng: Random) -> str:
    """A byte order mark at times."""
    return "\ufeff" if rng.random() < 0.2 else ""


_HEARTBEATS = ([":"], [": hb", ""], ["data:", ""], ["data", ""], ["event: ping", "data:", ""], ["event: ping", ""])


def _event(data: str, space: str, rng: Random) -> Iterator[str]:
    """The lines of one event, among other fields, with a heartbeat before it at times."""
    if rng.random() < 0.2:
        yield from rng.choice(_HEARTBEATS)
    before, after = rng.sample(["id: 7", "event: message", "retry: 10", ": a comment", "unknown: x"], 2)
    if rng.random() < 0.2:
        yield before
    for line in data.split("\n"):
        yield f"data:{space}{line}"
    if rng.random() < 0.2:
        yield after
    yield ""
