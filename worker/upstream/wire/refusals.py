"""An upstream's errors, in all the shapes in which they come: as HTTP answers, in place of an answer, or within one.

Pure. Not here: the meaning of names, words and statuses (refusal_codes.py), reading bodies, and the words that a caller
may see (disclosure.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.model.bounds import SENTENCE_CHARS
from worker.upstream.wire.refusal_codes import MINIMAX, as_status, code_of
from worker.upstream.wire.upstream_json import decode_json

# Of a list of errors so many are read, and so deep are errors within errors.
_ITEMS, _DEPTH = 8, 4
_NAME_KEYS = ("code", "error_code", "type", "error_type", "status", "statusCode", "status_code", "reason")
_WORD_KEYS = ("message", "error_message", "errorMessage", "error_msg", "msg", "detail", "error_description", "errors")
# An object that has one of these, and no choices, is an error.
_MARKS = ("error_type", "error_message", "errorMessage", "error_msg", "detail", "errors")
# Beside a message alone, an error may have these; anything else makes it something that is not known.
_BESIDE_MESSAGE = frozenset(
    {"message", "code", "choices", "status", "statusCode", "success"}
    | {"request_id", "requestId", "trace_id", "path", "timestamp"}
)
_NO_ERROR_CODES = (None, "", 0, "0", 200, "200", "success", "ok")


@dataclass(frozen=True, slots=True)
class Refusal:
    """One error of an upstream.

    `code` is one of REFUSALS, or TIMEOUT. `said` are the upstream's own words, as they came. `fields` are the fields of
    the request that it blames; `param` is the first of them, with its whole path.
    """

    code: str
    said: str = ""
    status: int | None = None
    param: str | None = None
    fields: tuple[str, ...] = ()


class Refused(Exception):
    """The upstream refused a request, with the headers of its answer if that was an HTTP error."""

    def __init__(self, refusal: Refusal, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(refusal.said)
        self.refusal = refusal
        self.headers = headers or {}


def refusal_in(data: object) -> Refusal | None:
    """Return the error that decoded JSON of a successful answer is, or None.

    An object with choices is one only if its `error` is filled; the errors of choices are chunk_reader.py's to find.
    """
    if isinstance(data, dict):
        # This is asked of each token: nearly all of them end here.
        if data.get("choices"):
            error = data.get("error")
            return refusal_of(data, otherwise="server_error") if error and _says_error(error) else None
        return refusal_of(data) if _is_error(data) else None
    if isinstance(data, list):
        errors = [each for each in data[:_ITEMS] if isinstance(each, dict) and _says_error(each.get("error"))]
        return refusal_of(errors) if errors else None
    return None


def refusal_of(data: object, status: int | None = None, otherwise: str = "provider_error") -> Refusal:
    """Read an error of any shape. `status` is that of HTTP; without it, a numeric code of the error counts.

    `otherwise` is the code of an error that says nothing about itself.
    """
    report = _Report()
    report.read(data, 0)
    known = status or next(iter(report.statuses), None)
    said = report.said()
    code = report.code or code_of(known, report.names, said, otherwise)
    params = list(dict.fromkeys(each for each in report.params if len(each) <= SENTENCE_CHARS and each.isprintable()))
    fields = tuple(dict.fromkeys(each.partition(".")[0].partition("[")[0] for each in params))
    return Refusal(code, said, known, next(iter(params), None), fields)


def _says_error(error: object) -> bool:
    """Return whether an `error` field holds one: a text, or an object with something in it."""
    return any(error.values()) if isinstance(error, Mapping) else bool(error)


def _is_error(data: Mapping[str, Any]) -> bool:
    """Return whether an object without choices is an error, by its own marks."""
    if _says_error(data.get("error")) or "error" in (data.get("object"), data.get("type")):
        return True
    if any(data.get(mark) for mark in _MARKS) or _minimax(data) is not None:
        return True
    message = data.get("message")
    if isinstance(message, Mapping):
        return bool(message.get("detail"))
    if not message or not isinstance(message, str):
        return False
    return _is_bad(data.get("code")) or data.keys() <= _BESIDE_MESSAGE


def _is_bad(code: object) -> bool:
    return not isinstance(code, Mapping | list) and code not in _NO_ERROR_CODES


def _minimax(data: Mapping[str, Any]) -> int | None:
    """MiniMax's status code of an answer that has failed."""
    base = data.get("base_resp")
    code = base.get("status_code") if isinstance(base, Mapping) else None
    return code if isinstance(code, int) and code else None


@dataclass(slots=True)
class _Report:
    """The parts of an error, collected from wherever they stand."""

    words: list[str] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    params: list[str] = field(default_factory=list)
    code: str | None = None

    def said(self) -> str:
        """Join the words in their order, each once; without words, the titles."""
        return ": ".join(dict.fromkeys(self.words or self.titles))

    def read(self, about: object, depth: int) -> None:
        """Collect the parts of one level of an error, and of those below it."""
        if depth > _DEPTH:
            return
        if isinstance(about, str):
            if about and not about.lstrip().startswith("<"):
                self.words.append(about)
        elif isinstance(about, list):
            for each in about[:_ITEMS]:
                self.read(each, depth + 1)
        elif isinstance(about, dict):
            self._read_object(about, depth)

    def _read_object(self, about: dict[str, Any], depth: int) -> None:
        self._read_names(about)
        self._read_place(about)
        error = about.get("error")
        if isinstance(error, str):
            self.titles.append(error)
        else:
            self.read(error, depth + 1)
        if "loc" in about and isinstance(about.get("msg"), str):
            self.words.append(": ".join([*self.params[-1:], about["msg"]]))
        else:
            for key in _WORD_KEYS:
                self.read(about.get(key), depth + 1)
        if isinstance(inner := about.get("innererror"), dict):
            self._read_names(inner)
        self._read_minimax(about)
        metadata = about.get("metadata")
        if isinstance(metadata, dict):
            self.read(_decoded(metadata.get("raw")), depth + 1)

    def _read_names(self, about: dict[str, Any]) -> None:
        for key in _NAME_KEYS:
            value = about.get(key)
            if (status := as_status(value)) is not None:
                self.statuses.append(status)
            elif isinstance(value, str) and value:
                self.names.append(value[:SENTENCE_CHARS])

    def _read_place(self, about: dict[str, Any]) -> None:
        param, place = about.get("param"), about.get("loc")
        if isinstance(param, str) and param:
            self.params.append(param)
        elif isinstance(place, list) and (path := _path(place)):
            self.params.append(path)

    def _read_minimax(self, about: dict[str, Any]) -> None:
        if (code := _minimax(about)) is None:
            return
        self.code = MINIMAX.get(code, "server_error")
        self.read(about["base_resp"].get("status_msg"), 1)


def _path(place: list[Any]) -> str:
    """Write a place in a request, `["body", "messages", 0]` for FastAPI, as Tailrace does: `messages[0]`."""
    path = ""
    for part in place[1:] if place[:1] == ["body"] else place:
        if isinstance(part, int):
            path += f"[{part}]"
        elif isinstance(part, str):
            path += f".{part}" if path else part
    return path


def _decoded(raw: object) -> object:
    """Return an error as OpenRouter passes it on: as an object, or as its text."""
    if not isinstance(raw, str) or not raw.lstrip().startswith(("{", "[")):
        return raw
    try:
        return decode_json(raw)
    except ValueError:
        return raw
