"""Decode a request's body as one JSON object of bounded depth and bounded numbers of objects (RFC 8259).

Pure. Not here: reading the body (gateway/http/bodies.py), and its fields (gateway/admission).
"""

import gc
import json
import math
import re
from typing import Any, NoReturn

from shared.model.bounds import CONTAINERS
from shared.model.errors import InvalidRequest

MAX_DEPTH = 128
"""How deep the objects and lists of a body may be nested: far below the depth that breaks a later reader."""

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def decode_object(raw: bytes) -> dict[str, Any]:
    """Decode a body.

    Raises:
        InvalidRequest: it is not UTF-8, not JSON, or not an object.
    """
    # Decoding makes no cycles, and the collector would search a body's lists for them repeatedly.
    collects = gc.isenabled()
    gc.disable()
    try:
        return _decoded(raw)
    finally:
        if collects:
            gc.enable()


def decode_optional_object(raw: bytes) -> dict[str, Any]:
    """Decode a body; an absent one counts as an empty object. Raises as `decode_object` does."""
    return decode_object(raw) if raw else {}


def _decoded(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw.decode(), parse_constant=_refuse_number, parse_float=_finite)
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise InvalidRequest(f"The body must be JSON: {error}.") from None
    if not isinstance(body, dict):
        raise InvalidRequest("The body must be a JSON object.")
    if (refusal := _refusal_of(body)) is not None:
        # Freed before the collector runs again: the error's traceback would hold all of it.
        del body
        raise refusal
    if _SURROGATE.search(raw):
        _check_texts(body)
    return body


def _refuse_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


def _finite(text: str) -> float:
    return number if math.isfinite(number := float(text)) else _refuse_number(text)


def _refusal_of(body: dict[str, Any]) -> InvalidRequest | None:
    """Return the error of a body with too many or too deeply nested objects and lists, if any."""
    level: list[Any] = [body]
    count = 1
    for _ in range(MAX_DEPTH):
        children = (child for each in level for child in (each.values() if isinstance(each, dict) else each))
        level = [child for child in children if isinstance(child, dict | list)]
        count += len(level)
        if count > CONTAINERS:
            return InvalidRequest(f"The body must have at most {CONTAINERS} objects and lists.")
        if not level:
            return None
    return _too_deep()


def _too_deep() -> InvalidRequest:
    return InvalidRequest(f"The body must be nested at most {MAX_DEPTH} levels deep.")


def _check_texts(body: dict[str, Any]) -> None:
    """Refuse half of a surrogate pair in an escape (RFC 8259 §8.2): without UTF-8, Redis and providers reject it."""
    try:
        json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise InvalidRequest(
            "The body must be valid Unicode: one of its strings has half of a surrogate pair."
        ) from None
