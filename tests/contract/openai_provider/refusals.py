"""Build the errors that an upstream answers with."""

from typing import Any


def body(message: str, **fields: object) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None, **fields}}
