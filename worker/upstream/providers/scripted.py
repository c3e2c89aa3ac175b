"""A provider without a model: the request scripts its answer.

It is an ordinary provider, for tests and for machines on which no local model runs. A plain prompt gets a friendly
answer. A last user message that is a JSON object `{"script": {...}}` (`Script`) sets the text, its rate and its faults.
`perform` is the pure part, which the tests' upstream plays over HTTP. Not here: any wire.
"""

import base64
import json
import random
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from itertools import islice
from typing import Any, ClassVar, TypeVar

import anyio
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from shared.model.errors import REFUSALS, ProviderRefused
from worker.upstream.wire.chunk import Chunk
from worker.upstream.wire.chunk_reader import ChunkReader
from worker.upstream.wire.vectors import Vectors, pack, read_vectors

MODEL = "scripted"
UNKNOWN = "unknown"
"""No model has a name with this beginning."""

_DEFAULT_TOKENS = 16
_DIMENSIONS = 8
_ECHOED_CHARS = 200
_WORD = re.compile(r"\S+\s*|\s+")
_BLOCK = 256
# Some of them hold characters that a component on the way may break.
_WORDS = (
    *("river ", "stone ", "light ", "ever ", "under ", "seven ", "paper ", "cloud ", "garden ", "window "),
    *("naïve ", "東京", "🌊", "\u2028", "\\n", '"q" ', "</p>", "data: ", "[DONE]", "\r\n", "a\n\nevent: b\n"),
)


class ScriptedToolCall(BaseModel):
    """A tool call to make."""

    name: str
    arguments: Any


class Script(BaseModel):
    """Describe an answer; each field is optional."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    FAULTS: ClassVar[tuple[str, ...]] = ("stall", "refuse", "truncate", "nonsense")

    text: str | None = Field(None, description="said as it is, in place of words made from `seed`")
    tokens: int | None = Field(None, ge=0, le=1_000_000, description="how many words to make")
    seed: int = Field(0, description="another seed, another text; so has each choice")
    rate: float = Field(0, ge=0, allow_inf_nan=False, description="tokens a second; 0: unpaced")
    reasoning: int = Field(0, ge=0, le=1_000_000, description="deltas of reasoning before the text")
    tool_calls: list[ScriptedToolCall] = Field([], description="made in place of a text that isn't asked for")
    finish_reason: str | None = Field(None, description="in place of the natural one")
    usage: bool = Field(True, description="whether to say how many tokens it were")
    fault: str | None = Field(None, description="what goes wrong: stall, refuse, truncate or nonsense")
    after: int = Field(0, ge=0, description="deltas before the fault, if there are so many")
    stall_s: float | None = Field(None, ge=0, description="how long a stall takes; unset: it has no end")
    code: str = Field("provider_error", description="with what the request is refused, one of `REFUSALS`")
    message: str = Field("The script says so.", description="the sentence that goes with it")

    @field_validator("fault")
    @classmethod
    def _is_known(cls, fault: str | None) -> str | None:
        if fault is not None and fault not in cls.FAULTS:
            raise ValueError(f"must be one of {', '.join(cls.FAULTS)}")
        return fault

    @field_validator("code")
    @classmethod
    def _is_a_refusal(cls, code: str) -> str:
        if code not in REFUSALS:
            raise ValueError(f"must be one of {', '.join(REFUSALS)}")
        return code


S = TypeVar("S", bound=Script)


class Scripted:
    """Play scripts. `rate` (tokens a second) is the speed of plain answers; `sleep` makes time pass."""

    def __init__(
        self,
        name: str = "scripted",
        *,
        rate: float = 0,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._name = name
        self._rate = rate
        self._sleep = sleep

    @property
    def name(self) -> str:
        """Return its name in `started` events and logs."""
        return self._name

    @asynccontextmanager
    async def stream(self, request: Mapping[str, Any]) -> AsyncIterator[AsyncIterator[Chunk]]:
        """Play the request's script.

        Raises:
            ProviderRefused: the script demands it or can't be read, or the model does not exist.
            ProviderGarbage: the script demands it.
        """
        async with aclosing(self._play(request)) as chunks:
            yield chunks

    async def embed(self, request: Mapping[str, Any]) -> Vectors:
        """Return the same meaningless vectors for the same inputs; an input may be a script, for its fault.

        Raises as `stream` does.
        """
        scripts = [script_of(each, Script) for each in scripted_inputs(request)]
        faulty = next((script for script in scripts if script.fault), None)
        await self._sleep(0)
        if faulty is not None and faulty.fault == "refuse":
            raise ProviderRefused(faulty.message, code=faulty.code)
        if faulty is not None and faulty.fault == "stall":
            await self._sleep(float("inf") if faulty.stall_s is None else faulty.stall_s)
        elif faulty is not None:
            return read_vectors("nonsense", len(scripts))
        return read_vectors(embed(request), len(scripts))

    async def models(self) -> list[str]:
        """Return one name, though any other works too."""
        return [MODEL]

    async def close(self) -> None:
        """Do nothing: it has no connections."""

    async def _play(self, request: Mapping[str, Any]) -> AsyncGenerator[Chunk, None]:
        script = script_of(request, Script, rate=self._rate)
        reader = ChunkReader(f"{script.seed}_", lambda error: ProviderRefused(str(error), code="server_error"))
        for number, chunk in enumerate(perform(request, script)):
            if chunk is not None:
                # The role and the first token come at once. To sleep for 0 s gives other tasks their turn.
                await self._sleep(1 / script.rate if script.rate and number > 1 else 0)
                yield reader.read(chunk)
            elif script.fault == "truncate":
                return
            elif script.fault == "refuse":
                raise ProviderRefused(script.message, code=script.code)
            elif script.fault == "nonsense":
                yield reader.read("nonsense")
            else:
                await self._sleep(float("inf") if script.stall_s is None else script.stall_s)


def script_of(request: Mapping[str, Any], kind: type[S], *, rate: float = 0) -> S:
    """Read the request's script; for a plain prompt, make one that answers it at `rate`.

    Raises:
        ProviderRefused: the model does not exist, or a field of the script is not valid.
    """
    model = str(request.get("model", MODEL))
    if model.startswith(UNKNOWN):
        raise ProviderRefused(f"There is no model {model[:100]!r}.", code="model_not_found", param="model")
    prompt = _prompt(request)
    found = _json(prompt)
    if not (isinstance(found, dict) and "script" in found):
        return kind(text=_answer(prompt), rate=rate)
    try:
        return kind.model_validate(found["script"])
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        message = f"The script is wrong: {wrong}."
        raise ProviderRefused(message, code="invalid_request", param="messages") from None


def perform(request: Mapping[str, Any], script: Script) -> Iterator[dict[str, Any] | None]:
    """Yield the answer as chat completion chunks, in order. None marks the place of a fault."""
    choices = range(_number(request, "n") or 1)
    deltas = 0
    yield _chunk(request, [{"index": i, "delta": {"role": "assistant", "content": ""}} for i in choices])
    for choice in _deltas(request, script, choices):
        if script.fault and deltas == script.after:
            yield None
        deltas += 1
        yield _chunk(request, [{**choice, "finish_reason": None}])
    if script.fault and deltas <= script.after:
        yield None
    ends = [{"index": i, "delta": {}, "finish_reason": _finish(request, script)} for i in choices]
    yield _chunk(request, ends)
    if script.usage:
        yield {**_chunk(request, []), "usage": _usage(request, deltas)}


def scripted_inputs(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Turn each input of an embeddings request into a chat request, so that it may hold a script."""
    return [
        {"model": request.get("model", MODEL), "messages": [{"role": "user", "content": str(each)}]}
        for each in request["input"]
    ]


def embed(request: Mapping[str, Any]) -> dict[str, Any]:
    """Answer an embeddings request, in base64 if that was asked for (OpenAI API reference, embeddings)."""
    inputs: list[Any] = request["input"]
    dimensions = _number(request, "dimensions") or _DIMENSIONS
    data = [
        {"object": "embedding", "index": index, "embedding": _shown(_vector(each, dimensions), request)}
        for index, each in enumerate(inputs)
    ]
    tokens = sum(len(each) if isinstance(each, list) else len(str(each).split()) for each in inputs)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": request.get("model", MODEL), "usage": usage}


def _vector(input_: object, dimensions: int) -> list[float]:
    numbers = random.Random(json.dumps(input_))
    return [numbers.uniform(-1, 1) for _ in range(dimensions)]


def _shown(vector: list[float], request: Mapping[str, Any]) -> object:
    return base64.b64encode(pack(vector)).decode() if request.get("encoding_format") == "base64" else vector


def text_of(request: Mapping[str, Any], script: Script, choice: int = 0) -> str:
    """Return the whole text of a choice, as it is without a fault."""
    return "".join(_words(request, script, choice))


def _deltas(request: Mapping[str, Any], script: Script, choices: range) -> Iterator[dict[str, Any]]:
    # The choices take turns, as a real model's do.
    for number in range(script.reasoning):
        for index in choices:
            yield {"index": index, "delta": {"reasoning_content": f"thought {number}. "}}
    for words in zip(*(_words(request, script, index) for index in choices), strict=True):
        for index, word in enumerate(words):
            choice = {"index": index, "delta": {"content": word}}
            yield {**choice, "logprobs": _logprobs(word)} if request.get("logprobs") else choice
    for position, call in enumerate(script.tool_calls):
        for index in choices:
            for part in _call_parts(call, f"call_{script.seed}_{index}_{position}"):
                yield {"index": index, "delta": {"tool_calls": [{"index": position, **part}]}}


def _words(request: Mapping[str, Any], script: Script, choice: int) -> Iterator[str]:
    return islice(_all_words(script, choice), _limit(request))


def _all_words(script: Script, choice: int) -> Iterator[str]:
    if script.text is not None:
        yield from re.findall(_WORD, script.text)
        return
    numbers, missing = random.Random(f"{script.seed}/{choice}"), _count(script)
    # A block at a time: an answer that is stopped after its first words costs no more than these.
    while missing:
        block = numbers.choices(_WORDS, k=min(missing, _BLOCK))
        yield from block
        missing -= len(block)


def _count(script: Script) -> int:
    """Return the number of words in the whole text."""
    if script.text is not None:
        return len(re.findall(_WORD, script.text))
    if script.tokens is None:
        return 0 if script.tool_calls else _DEFAULT_TOKENS
    return script.tokens


def _limit(request: Mapping[str, Any]) -> int | None:
    return _number(request, "max_completion_tokens") or _number(request, "max_tokens")


def _finish(request: Mapping[str, Any], script: Script) -> str:
    if script.finish_reason is not None:
        return script.finish_reason
    if script.tool_calls:
        return "tool_calls"
    limit = _limit(request)
    return "stop" if limit is None or _count(script) <= limit else "length"


def _call_parts(call: ScriptedToolCall, call_id: str) -> Iterator[dict[str, Any]]:
    yield {"id": call_id, "type": "function", "function": {"name": call.name, "arguments": ""}}
    arguments = json.dumps(call.arguments)
    for start in range(0, len(arguments), 8):
        yield {"function": {"arguments": arguments[start : start + 8]}}


def _logprobs(word: str) -> dict[str, Any]:
    return {"content": [{"token": word, "logprob": -0.5, "bytes": [*word.encode()], "top_logprobs": []}]}


def _usage(request: Mapping[str, Any], completion_tokens: int) -> dict[str, int]:
    prompt_tokens = sum(len(_text(message).split()) for message in _messages(request))
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def _chunk(request: Mapping[str, Any], choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": "chatcmpl-scripted",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": request.get("model", MODEL),
        "choices": choices,
    }


def _number(request: Mapping[str, Any], field: str) -> int | None:
    value = request.get(field)
    return value if isinstance(value, int) and value > 0 else None


def _messages(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    messages = request.get("messages")
    return [m for m in messages if isinstance(m, dict)] if isinstance(messages, list) else []


def _prompt(request: Mapping[str, Any]) -> str:
    return next((_text(m) for m in reversed(_messages(request)) if m.get("role") == "user"), "")


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _json(text: str) -> object:
    try:
        return json.loads(text) if text.lstrip().startswith("{") else None
    except (ValueError, RecursionError):
        return None


def _answer(prompt: str) -> str:
    said = " ".join(prompt.split())
    shown = said if len(said) <= _ECHOED_CHARS else said[:_ECHOED_CHARS] + "…"
    return (
        f"You said: “{shown}” I am the scripted provider. There is no model behind me, but every token of "
        "this answer went the way that a model's tokens go."
    )
