"""Write errors for OpenAI's clients: its envelope, with the headers that say whether to repeat the request.

Not here: the envelope itself (gateway/dialects/errors.py), and errors inside a stream.
"""

from collections.abc import Mapping

from starlette.responses import Response

from gateway.dialects.errors import Failure, body_of, failure_of, headers_of
from gateway.http.bodies import AsciiJSONResponse
from shared.model.errors import TailraceError

OPENAI_PREFIX = "/v1/"
"""The prefix of all OpenAI faces, which also write the errors of paths there that do not exist."""


def openai_error(error: TailraceError) -> Response:
    """Write an error that was raised here."""
    return openai_failure(failure_of(error))


def openai_failure(failure: Failure, headers: Mapping[str, str] | None = None) -> Response:
    """Write a failure, which may be a provider's or a job's, with further headers."""
    return AsciiJSONResponse(body_of(failure), failure.status, {**headers_of(failure), **(headers or {})})
