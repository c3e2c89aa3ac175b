"""The fields that Tailrace adds to a request, and can do without if an upstream refuses them.

Some say how an answer travels: the caller's answer is the same without them. The others give an earlier answer's state
back, which one upstream demands and another refuses. Pure. Not here: the request's other fields
(request_writer.py).
"""

import re
from collections.abc import Collection, Container
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from shared.model.bounds import CHOOSY_MODELS
from worker.upstream.wire.refusal_codes import TIMEOUT
from worker.upstream.wire.refusals import Refusal


class TransportField(StrEnum):
    """A field of a request, by its name."""

    STREAM = "stream"
    STREAM_OPTIONS = "stream_options"
    ENCODING_FORMAT = "encoding_format"
    THOUGHTS = "reasoning_content"
    """The thoughts of all messages."""
    CALL_STATE = "extra_content"
    """The further fields of all calls, whatever their names are."""


_OF_A_MODEL: Final = frozenset({TransportField.STREAM, TransportField.THOUGHTS, TransportField.CALL_STATE})


@dataclass(frozen=True, slots=True)
class Blame:
    """A refused field. `lasting`: the provider refuses it in each request."""

    field: TransportField
    lasting: bool = True


# Refusals that have another cause, even if they mention a field.
_ELSEWHERE: Final = frozenset(
    {"rate_limit_exceeded", "insufficient_quota", "provider_overloaded", TIMEOUT}
    | {"context_length_exceeded", "content_policy_violation", "model_not_found"}
)
_WORDS: Final = (
    (TransportField.STREAM_OPTIONS, re.compile(r"\bstream_options\b|\binclude_usage\b", re.IGNORECASE)),
    (TransportField.ENCODING_FORMAT, re.compile(r"\bencoding[_ ]format\b|\bbase64\b", re.IGNORECASE)),
    (
        TransportField.STREAM,
        re.compile(
            r"verified to stream"
            r"|\bstream(?:ing)?\W{0,3} (?:mode )?(?:is |are )?(?:not|un) ?(?:yet )?(?:supported|allowed)"
            r"|(?:not|n't) (?:yet )?(?:support|allow)\w* \W?stream(?:ing)?\b|only (?:supports? )?non-?streaming"
            r"|\bstream\b\W{0,3} must be \W{0,2}false",
            re.IGNORECASE,
        ),
    ),
)
# The words for a field that should not be there. An upstream that misses one has others.
_UNKNOWN: Final = re.compile(
    r"\bun(?:expected|known|recogni[sz]ed|supported)\b|\bnot (?:be )?(?:permitted|allowed|supported|included)\b"
    r"|\b(?:cannot|can't) find\b|\b(?:extra|additional) (?:inputs?|fields?|propert(?:y|ies))\b|\bforbidden\b",
    re.IGNORECASE,
)
# "does not support 'wav' when stream=true": the field at fault is the caller's, but it is fine without a stream.
_WITH_STREAM: Final = re.compile(r"\bstream\W{0,2}[=:]\W{0,3}true\b", re.IGNORECASE)


def blamed(refusal: Refusal, sent: Container[str], state: Collection[str] = ()) -> Blame | None:
    """Return the transport field among the `sent` ones that a refusal blames, by its name or by words.

    `state` are the names of fields of the request's messages that give an earlier answer's state back.
    """
    if refusal.code in _ELSEWHERE:
        return None
    for field in TransportField:
        if field in refusal.fields and field in sent:
            return Blame(field)
    if not refusal.fields:
        for field, words in _WORDS:
            if field in sent and words.search(refusal.said):
                return Blame(field)
    if _UNKNOWN.search(refusal.said) and (names := [name for name in state if _names(refusal.said, name)]):
        if TransportField.THOUGHTS in names:
            return Blame(TransportField.THOUGHTS)
        # A name that a caller made up must not cost all others their state.
        return Blame(TransportField.CALL_STATE, lasting=names == [TransportField.CALL_STATE])
    if TransportField.STREAM in sent and _WITH_STREAM.search(refusal.said):
        return Blame(TransportField.STREAM, lasting=False)
    return None


def _names(said: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", said) is not None


class LeftOut:
    """The fields that one provider has refused since this process began, some of them for one model only."""

    def __init__(self) -> None:
        self._of_all: frozenset[TransportField] = frozenset()
        # The model that was refused last comes last.
        self._of_model: dict[str, frozenset[TransportField]] = {}

    def of(self, model: str) -> frozenset[TransportField]:
        """Return the fields that a request for this model does without."""
        return self._of_all | self._of_model.get(model, frozenset())

    def add(self, field: TransportField, model: str) -> None:
        """Remember that a request for this model was taken without the field, and not with it."""
        if field not in _OF_A_MODEL:
            self._of_all |= {field}
            return
        self._of_model[model] = self._of_model.pop(model, frozenset()) | {field}
        if len(self._of_model) > CHOOSY_MODELS:
            del self._of_model[next(iter(self._of_model))]
