"""Request bodies: JSON objects of a bounded size, or an error that says what is wrong.

Above: the handlers. Below: Starlette. Not here: what the fields mean (admission.py).
"""

import json
from typing import Any, NoReturn

from starlette.requests import Request

from shared.errors import BodyTooLarge, InvalidRequest

# What is still read, and thrown away, of a body that is too large: a client that is cut off while it sends sees a
# broken connection instead of the answer.
_DRAIN_BYTES = 64 * 1024 * 1024


async def read_json(request: Request, max_bytes: int) -> dict[str, Any]:
    """The body as a JSON object (RFC 8259).

    Raises:
        BodyTooLarge: it is over `max_bytes`.
        InvalidRequest: it is not UTF-8, not JSON, or not an object.
        starlette.requests.ClientDisconnect: the client left before it was through.
    """
    raw = await _read(request, max_bytes)
    try:
        body = json.loads(raw, parse_constant=_refuse_constant)
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply.") from None
    except ValueError as error:
        raise InvalidRequest(f"The body must be JSON: {error}.") from None
    if not isinstance(body, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return body


async def _read(request: Request, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size <= max_bytes:
            parts.append(part)
        elif size > max_bytes + _DRAIN_BYTES:
            break
    if size > max_bytes:
        raise BodyTooLarge(f"The body must be at most {max_bytes} bytes.")
    return b"".join(parts)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
