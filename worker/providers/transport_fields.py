"""The fields that say how an answer travels: Tailrace adds them to a request, and can do without each.

The caller's answer is the same with them or without them. Pure. Not here: the request's other fields
(request_writer.py).
"""

import re
from collections.abc import Container
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from shared.bounds import UNSTREAMED
from worker.providers.refusal_codes import TIMEOUT
from worker.providers.refusals import Refusal


class TransportField(StrEnum):
    """A field of a request, by its name."""

    STREAM = "stream"
    STREAM_OPTIONS = "stream_options"
    ENCODING_FORMAT = "encoding_format"


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
# "does not support 'wav' when stream=true": the field at fault is the caller's, but it is fine without a stream.
_WITH_STREAM: Final = re.compile(r"\bstream\W{0,2}[=:]\W{0,3}true\b", re.IGNORECASE)


def blamed(refusal: Refusal, sent: Container[str]) -> Blame | None:
    """Return the transport field among the `sent` ones that a refusal blames, by its name or by words."""
    if refusal.code in _ELSEWHERE:
        return None
    for field in TransportField:
        if field in refusal.fields and field in sent:
            return Blame(field)
    if not refusal.fields:
        for field, words in _WORDS:
            if field in sent and words.search(refusal.said):
                return Blame(field)
    if TransportField.STREAM in sent and _WITH_STREAM.search(refusal.said):
        return Blame(TransportField.STREAM, lasting=False)
    return None


class LeftOut:
    """The fields that one provider has refused since this process began: `stream` for a model, the others for all."""

    def __init__(self) -> None:
        self._fields: frozenset[TransportField] = frozenset()
        # The model that was refused last comes last.
        self._unstreamed: dict[str, None] = {}

    def of(self, model: str) -> frozenset[TransportField]:
        """Return the fields that a request for this model does without."""
        return self._fields | {TransportField.STREAM} if model in self._unstreamed else self._fields

    def add(self, field: TransportField, model: str) -> None:
        """Remember that a request for this model was taken without the field, and not with it."""
        if field is not TransportField.STREAM:
            self._fields |= {field}
            return
        self._unstreamed.pop(model, None)
        self._unstreamed[model] = None
        if len(self._unstreamed) > UNSTREAMED:
            del self._unstreamed[next(iter(self._unstreamed))]
