"""Read request bodies of a bounded size, and write JSON. Not here: decoding a body (gateway/model/json_body.py)."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from shared.model.bounds import REFUSED_BODY_BYTES
from shared.model.errors import BodyTooLarge
from shared.model.events import encode_data


async def read_body(request: Request, max_bytes: int) -> bytes:
    """Read the whole body.

    Raises:
        BodyTooLarge: it is over `max_bytes`.
        starlette.requests.ClientDisconnect: the client left before the body was complete.
    """
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


class AsciiJSONResponse(JSONResponse):
    """Answer in ASCII-only JSON, like the frames: no reader can mistake a part of it for a line end."""

    def render(self, content: Any) -> bytes:
        """Encode the body."""
        return encode_data(content)
