"""The errors of the command line's client.

Not here: the exit statuses (gateway/client/model/exit_status.py).
"""

from shared.model.errors.base import TailraceError


class ClientError(TailraceError):
    """The command line could not do its work."""

    code = "client_error"


class GatewayUnreachable(ClientError):
    """The gateway's address does not answer within the caller's time limit."""

    code = "gateway_unreachable"


class GatewayRefused(ClientError):
    """The gateway answered with an error. `reported_code` is the code in that answer, if it has one."""

    code = "gateway_refused"

    def __init__(self, message: str, *, http_status: int, reported_code: str | None = None) -> None:
        super().__init__(message)
        self.http_status = http_status
        self.reported_code = reported_code


class GatewayGarbage(ClientError):
    """The server at the gateway's address does not speak Tailrace's protocol."""

    code = "gateway_garbage"


class AnswerNotWhole(ClientError):
    """The checksum does not match, or a part that was written has been revoked since."""

    code = "answer_not_whole"
