"""The error answers of a server as exceptions: those that an outage explains, and those of a wrong command.

Not here: the meaning of each answer (shared/store/wire/redis_answers.py).
"""

from typing import Final

from redis._parsers.base import BaseParser
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from shared.store.wire.redis_answers import ErrorClass, error_class_of, has_word, sentence_of, word_of

ANSWERS: Final = (ResponseError, AuthenticationError, BusyLoadingError)
"""The exceptions that redis-py makes of error answers."""

# redis-py drops the first word of answers that it has a class for, and `ERR`.
_WORDS: Final[dict[type[Exception], str]] = {
    BusyLoadingError: "LOADING",
    ReadOnlyError: "READONLY",
    NoPermissionError: "NOPERM",
    OutOfMemoryError: "OOM",
}


class RedisAnswer(RedisError):
    """An error answer that is not the command's fault: callers treat it as an outage.

    redis-py does not send such a command again, as it does after a lost connection.
    """

    def __init__(self, answer: str) -> None:
        super().__init__(answer)
        self.answer = answer


class PassingRefusal(RedisAnswer):
    """The server is there and can't serve just now: a fail-over, a full disk, a script that takes too long."""


class RefusedByRedis(RedisAnswer):
    """The server will not serve this user, database or command until a person changes something."""

    command: str | None = None

    @property
    def sentence(self) -> str:
        """The refusal, and the change that helps."""
        return sentence_of(self.answer, self.command)


def refusal_of(error: Exception) -> RedisAnswer | None:
    """Return redis-py's exception of an error answer as one of its sort; None if its command was at fault."""
    answer = _answer_of(error)
    match error_class_of(answer):
        case ErrorClass.PASSING:
            return PassingRefusal(answer)
        case ErrorClass.REFUSED:
            return RefusedByRedis(answer)
        case ErrorClass.FULL | ErrorClass.DEFECT:
            return None


def error_of(answer: str) -> Exception:
    """Make the exception of an error answer."""
    error: Exception = BaseParser.parse_error(answer)
    return (refusal_of(error) if isinstance(error, ANSWERS) else None) or error


def name_of(error: Exception) -> str:
    """Name an error of Redis for a log: the first word of its answer, or its class if no answer came."""
    if isinstance(error, RedisAnswer):
        return word_of(error.answer)
    if isinstance(error, ResponseError):
        return word_of(_answer_of(error))
    return type(error).__name__


def _answer_of(error: Exception) -> str:
    """Read an error answer as the server sent it."""
    text = str(error)
    if isinstance(error, AuthenticationError):
        return f"NOAUTH {text}" if text.startswith("Authentication required") else f"WRONGPASS {text}"
    word = _WORDS.get(type(error), "" if has_word(text) else "ERR")
    return f"{word} {text}".lstrip()
