"""Write OpenAI's legacy completions: a chat job's events in, text chunks or one whole text out. Pure.

A text has no place for reasoning or tool calls. Not here: the request (request.py), HTTP, time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.dialects.chat.answer_options import AnswerOptions
from gateway.dialects.chat.chunk_stream import ChunkStream
from gateway.dialects.chat.whole_answer import WholeAnswer, words_of

_KIND = "text_completion"


@dataclass(frozen=True, slots=True)
class TextOptions(AnswerOptions):
    """The options of a text completion."""

    PREFIX = "cmpl-"


class TextStream(ChunkStream):
    """Translate a job into a stream of `text_completion` (OpenAI API reference, completions/create)."""

    KIND = _KIND
    PLAIN = (b'{"content":"',)
    PART = slice(len(b'{"content":'), -1)
    HOLE = b'"text":""'

    def __init__(self, options: TextOptions) -> None:
        super().__init__(options)
        self._lengths: dict[int, int] = {}
        """The characters of each choice's tokens so far, if the choice has log probabilities."""

    def _choice(self, index: int, delta: dict[str, Any]) -> dict[str, Any] | None:
        text, tokens = words_of((delta,)), _tokens_of(delta)
        if not text and not tokens:
            return None
        offset = self._lengths.get(index, 0)
        if tokens:
            self._lengths[index] = offset + sum(len(token["token"]) for token in tokens)
        return _text_choice(index, text, _logprobs(tokens, offset))

    def _finished(self, index: int, reason: str) -> dict[str, Any]:
        return _text_choice(index, "", None, reason)

    def _empty(self) -> dict[str, Any]:
        return _text_choice(0, "", None)


class TextCompletion(WholeAnswer):
    """Translate a job into one `text_completion` (OpenAI API reference, completions/object)."""

    KIND = _KIND

    def _choice(self, index: int, reason: str, deltas: Sequence[dict[str, Any]]) -> dict[str, Any]:
        tokens = [token for delta in deltas for token in _tokens_of(delta)]
        return _text_choice(index, words_of(deltas), _logprobs(tokens, 0), reason)


def _text_choice(
    index: int, text: str, logprobs: Mapping[str, Any] | None, finish_reason: str | None = None
) -> dict[str, Any]:
    return {"text": text, "index": index, "logprobs": logprobs, "finish_reason": finish_reason}


def _tokens_of(delta: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the tokens of a delta's words, with their log probabilities.

    An upstream's entry that is not a token is left out: its form is the upstream's own.
    """
    logprobs = delta.get("logprobs", {})
    listed = (logprobs.get(name) for name in ("content", "refusal"))
    return [token for tokens in listed if isinstance(tokens, list) for token in tokens if _is_token(token)]


def _is_token(token: object) -> bool:
    return isinstance(token, dict) and isinstance(token.get("token"), str)


def _logprobs(tokens: Sequence[Mapping[str, Any]], offset: int) -> dict[str, Any] | None:
    """Return a chat's log probabilities as those of a text; `offset` is the first token's position."""
    if not tokens:
        return None
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token["token"])
    has_top = any(token.get("top_logprobs") for token in tokens)
    return {
        "tokens": [token["token"] for token in tokens],
        "token_logprobs": [token.get("logprob") for token in tokens],
        "top_logprobs": [_top(token) for token in tokens] if has_top else None,
        "text_offset": offsets,
    }


def _top(token: Mapping[str, Any]) -> dict[str, Any]:
    """Return the likeliest tokens, among which the chosen one always is."""
    listed = token.get("top_logprobs")
    likeliest = filter(_is_token, listed if isinstance(listed, list) else ())
    return {each["token"]: each.get("logprob") for each in (*likeliest, token)}
