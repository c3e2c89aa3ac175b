"""Build answers that several tests of this folder send."""

from tests.support.raw_upstream import Raw, as_json, chunk, completion, said

HELLO = said({"content": "Hello"}, {"content": " world"})
CHUNKS = [chunk({"content": "Hello"}), chunk({"content": " world"}, "stop")]
VECTORS = {"object": "list", "data": [{"index": 0, "embedding": [0.5, 0.25]}], "usage": {"prompt_tokens": 1}}


def refusal(message: str, status: int = 400, **fields: object) -> Raw:
    """Build an error of OpenAI's."""
    return as_json({"error": {"message": message, "type": "invalid_request_error", **fields}}, status)


FIELDS = [{"type": "extra_forbidden", "loc": ["body", "x"], "msg": "Extra inputs are not permitted"}]
WHOLE = as_json(completion({"role": "assistant", "content": "Hello world"}))
