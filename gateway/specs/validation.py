"""Validate the fields of a request, one by one: each is read, or refused with a sentence about the right value.

Pure. All raise InvalidRequest, and `read_lane` also Forbidden. Not here: how a job is made of them
(gateway/admission/admission.py).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.dialects.chat_parameters import check_parameters, is_whole
from gateway.specs.embedding_input import read_input
from gateway.specs.request_options import ABANDON_HEADER
from shared.model.bounds import DIMENSIONS, EMBEDDED_INPUTS, EMBEDDED_INPUTS_OF_A_JOB
from shared.model.errors import Forbidden, InvalidRequest
from shared.model.jobs import KEPT, LONGEST_TIMEOUT_S, OnDisconnect
from shared.model.model_names import MODEL_CHARS, is_model_name
from shared.model.routes import OnStreamFailure

_MAX_KEY = 255
_MAX_METADATA = 16
_MAX_METADATA_KEY, _MAX_METADATA_VALUE = 64, 512
_CHOSEN_LATER = "encoding_format is chosen when the result is read: GET /v1/jobs/{id}/result?encoding_format=base64."
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
# An assistant may have called tools instead, and a tool may have returned nothing.
_MAY_BE_SILENT = ("assistant", "tool", "function")


def read_model(body: Mapping[str, Any]) -> str:
    """Read the name of the model."""
    model = body.get("model")
    if KEPT in body:
        raise InvalidRequest(f"{KEPT} is Tailrace's own name; leave it out.", param=KEPT)
    if not is_model_name(model):
        raise InvalidRequest(
            f"model must be the name of a model: 1 to {MODEL_CHARS} printable characters.", param="model"
        )
    return model


def embedding_of(body: Mapping[str, Any], most: int) -> dict[str, Any]:
    """Build an embeddings request for the provider: its `input` becomes a list from any shape."""
    inputs = read_input(body.get("input"), most)
    dimensions = body.get("dimensions")
    if dimensions is None:
        return {**{name: value for name, value in body.items() if name != "dimensions"}, "input": inputs}
    if not is_whole(dimensions, 1, DIMENSIONS):
        raise InvalidRequest(f"dimensions must be a whole number from 1 to {DIMENSIONS}.", param="dimensions")
    return {**body, "input": inputs}


def check_chat(body: Mapping[str, Any]) -> None:
    """Check a chat request: its model, its messages and its parameters."""
    read_model(body)
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise InvalidRequest("messages must be a list of at least one message.", param="messages")
    for position, message in enumerate(messages):
        _check_message(message, f"messages[{position}]")
    check_parameters(body)


def read_chat(body: Mapping[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    """Read the chat request of a body."""
    check_chat(body)
    return request


def read_embedding_job(body: Mapping[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    """Read the embeddings request of a job's body."""
    if "encoding_format" in body:
        raise InvalidRequest(_CHOSEN_LATER, param="encoding_format")
    return embedding_of(request, EMBEDDED_INPUTS_OF_A_JOB)


def read_embedding_call(request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Read the embeddings request of a dialect's call."""
    # The encoding of the vectors concerns the caller's answer only, and is not part of the job.
    return embedding_of({name: value for name, value in request.items() if name != "encoding_format"}, EMBEDDED_INPUTS)


def _check_message(message: object, where: str) -> None:
    if not isinstance(message, dict):
        raise InvalidRequest(f"{where} must be an object with a role and content.", param=where)
    role = message.get("role")
    if role not in _ROLES:
        raise InvalidRequest(f"{where}.role must be one of: {', '.join(_ROLES)}.", param=f"{where}.role")
    content = message.get("content")
    if content is None and role in _MAY_BE_SILENT:
        return
    if not isinstance(content, str | list):
        raise InvalidRequest(f"{where}.content must be a string or a list of parts.", param=f"{where}.content")


def read_lane(value: object, param: str, *, lanes: Sequence[str], allowed: Sequence[str]) -> str:
    """Read the name of a lane: one of `lanes`, and of those that its caller's key may use."""
    must = f"{param} must be one of: {', '.join(allowed)}."
    if not isinstance(value, str) or value not in lanes:
        raise InvalidRequest(must, param=param)
    if value not in allowed:
        raise Forbidden(f"This key may not use the lane {value}; {must}", param=param)
    return value


def read_on_stream_failure(value: object, param: str) -> OnStreamFailure | None:
    """Read the policy for a stream's failure; None if the field is absent."""
    if value is None:
        return None
    if value not in [*OnStreamFailure]:
        raise InvalidRequest(f"{param} must be one of: {', '.join(OnStreamFailure)}.", param=param)
    return OnStreamFailure(str(value))


def read_on_disconnect(value: object, param: str) -> OnDisconnect:
    """Read the policy for the time when the job's last viewer leaves."""
    if not isinstance(value, str) or value not in list(OnDisconnect):
        raise InvalidRequest(f"{param} must be one of: {', '.join(OnDisconnect)}.", param=param)
    return OnDisconnect(value)


def read_header_seconds(value: str | None) -> float | None:
    """Read the seconds of the header `ABANDON_HEADER`, if it is present."""
    if value is None:
        return None
    try:
        return read_seconds(float(value), ABANDON_HEADER)
    except ValueError:
        return read_seconds(value, ABANDON_HEADER)


def read_seconds(value: object, param: str) -> float:
    """Read a number of seconds that a job could wait."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= LONGEST_TIMEOUT_S:
        raise InvalidRequest(
            f"{param} must be a number of seconds, more than 0 and at most {LONGEST_TIMEOUT_S:.0f}.", param=param
        )
    return float(value)


def read_metadata(value: object) -> Mapping[str, str]:
    """Read the job's metadata: a few short texts."""
    if value is None:
        return {}
    if not isinstance(value, dict) or len(value) > _MAX_METADATA:
        raise InvalidRequest(f"metadata must be an object of at most {_MAX_METADATA} strings.", param="metadata")
    for name, text in value.items():
        if len(name) > _MAX_METADATA_KEY or not isinstance(text, str) or len(text) > _MAX_METADATA_VALUE:
            raise InvalidRequest(
                f"metadata.{name[:_MAX_METADATA_KEY]} must be a string of at most {_MAX_METADATA_VALUE} characters, "
                f"under a name of at most {_MAX_METADATA_KEY}.",
                param="metadata",
            )
    return value


def read_idempotency_key(key: str) -> str:
    """Read the header's value; the draft writes it in quotes, most clients don't: both mean the same."""
    bare = key[1:-1] if len(key) >= 2 and key[0] == key[-1] == '"' else key
    if not 0 < len(bare) <= _MAX_KEY or not bare.isascii() or not bare.isprintable():
        raise InvalidRequest(
            f"Idempotency-Key must be 1 to {_MAX_KEY} printable ASCII characters.", param="Idempotency-Key"
        )
    return bare


def fingerprint_of(route: str, body: Mapping[str, Any]) -> str:
    """Return a fingerprint that is equal for bodies of equal meaning: the order of fields does not count."""
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{route}\n{canonical}".encode()).hexdigest()
