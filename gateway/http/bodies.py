"""Read JSON objects of a bounded size from request bodies, and write JSON. Not here: the fields (admission)."""

import gc
import json
import math
import re
from typing import Any, NoReturn

from starlette.requests import Request
from starlette.responses import JSONResponse

from gateway.http.heavy_work import HeavyWork, note_body_size
from shared.model.bounds import CONTAINERS, REFUSED_BODY_BYTES
from shared.model.errors import BodyTooLarge, InvalidRequest
from shared.model.events import encode_data

MAX_DEPTH = 128
"""How deep the objects and lists of a body may be nested: far below the depth that breaks a later reader."""

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


async def read_json(
    request: Request, max_bytes: int, heavy: HeavyWork | None = None, *, optional: bool = False
) -> dict[str, Any]:
    """Read the body as a JSON object (RFC 8259); if it is `optional`, an absent body counts as an empty object.

    A large body is decoded outside the event loop if there is a thread for `heavy` work.

    Raises:
        BodyTooLarge: it is over `max_bytes`.
        InvalidRequest: it is not UTF-8, not JSON, or not an object.
        starlette.requests.ClientDisconnect: the client left before the body was complete.
    """
    raw = await _read(request, max_bytes)
    note_body_size(request, len(raw))
    if optional and not raw:
        return {}
    return _decoded(raw) if heavy is None else await heavy.run(len(raw), _decoded_at_once, raw)


def _decoded_at_once(raw: bytes) -> dict[str, Any]:
    # Decoding makes no cycles, and the collector would search a body's lists for them repeatedly, holding the
    # interpreter's lock.
    collects = gc.isenabled()
    gc.disable()
    try:
        return _decoded(raw)
    finally:
        if collects:
            gc.enable()


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


async def _read(request: Request, max_bytes: int) -> bytes:
    body = bytearray()  # a list of parts that are a few bytes each would be many times as large
    size = 0
    async for part in request.stream():
        size += len(part)
        if size <= max_bytes:
            body += part
        elif size > max_bytes + REFUSED_BODY_BYTES:
            break
    if size > max_bytes:
        raise BodyTooLarge(f"The body must be at most {max_bytes} bytes.")
    return bytes(body)


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


class AsciiJSONResponse(JSONResponse):
    """Answer in ASCII-only JSON, like the frames: no reader can mistake a part of it for a line end."""

    def render(self, content: Any) -> bytes:
        """Encode the body."""
        return encode_data(content)
