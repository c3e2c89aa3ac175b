"""The error answers of Redis and Valkey, sorted: by the first word, and by a phrase if the word is only `ERR`.

Pure. Not here: raising them (shared/store/client.py).
"""

from enum import Enum
from typing import Final


class ErrorClass(Enum):
    """The meaning of an error answer for its caller."""

    PASSING = "the server can't serve now: wait and try again"
    FULL = "the server takes in nothing more until memory is freed"
    REFUSED = "this user, database or kind of server is not served: a person has to change something"
    DEFECT = "the command was wrong: a defect of Tailrace, or of the data"


_BY_WORD: Final = {
    "LOADING": ErrorClass.PASSING,  # it has just started
    "MASTERDOWN": ErrorClass.PASSING,  # a replica without its primary
    "READONLY": ErrorClass.PASSING,  # a primary that was demoted
    "UNBLOCKED": ErrorClass.PASSING,  # the same, to a command that was waiting
    "MISCONF": ErrorClass.PASSING,  # it can't write to its disk
    "NOREPLICAS": ErrorClass.PASSING,
    "BUSY": ErrorClass.PASSING,  # a script runs for too long
    "TRYAGAIN": ErrorClass.PASSING,
    "CLUSTERDOWN": ErrorClass.PASSING,
    "OOM": ErrorClass.FULL,
    "NOPERM": ErrorClass.REFUSED,
    "WRONGPASS": ErrorClass.REFUSED,
    "NOAUTH": ErrorClass.REFUSED,
    "DENIED": ErrorClass.REFUSED,  # protected mode
    "NOPROTO": ErrorClass.REFUSED,
    "MOVED": ErrorClass.REFUSED,
    "ASK": ErrorClass.REFUSED,
    "CROSSSLOT": ErrorClass.REFUSED,
}
_BY_PHRASE: Final = {
    "max number of clients": ErrorClass.PASSING,
    "ACL failure in script": ErrorClass.REFUSED,
    "unknown command": ErrorClass.REFUSED,
    "without any password configured": ErrorClass.REFUSED,
    "AUTH, but no password is set": ErrorClass.REFUSED,
    "invalid password": ErrorClass.REFUSED,
    "DB index is out of range": ErrorClass.REFUSED,
    "invalid DB index": ErrorClass.REFUSED,
}
_DEFECTS: Final = (
    "WRONGTYPE",
    "NOSCRIPT",
    "EXECABORT",
    "BUSYKEY",
    "BUSYGROUP",
    "NOGROUP",
    "UNKILLABLE",
    "NOTBUSY",
    "IOERR",
)
_CLUSTER: Final = ("MOVED", "ASK", "CROSSSLOT")
_LOGIN: Final = ("WRONGPASS", "NOAUTH", "DENIED")


def word_of(answer: str) -> str:
    """Read the first word of an error answer."""
    return answer.partition(" ")[0]


def has_word(text: str) -> bool:
    """Whether a text begins with the word of an answer: redis-py drops `ERR`."""
    word = word_of(text)
    return word in _BY_WORD or word in _DEFECTS


def error_class_of(answer: str) -> ErrorClass:
    """Classify an error answer."""
    word = word_of(answer)
    if word in _BY_WORD:
        return _BY_WORD[word]
    return next((sort for phrase, sort in _BY_PHRASE.items() if phrase in answer), ErrorClass.DEFECT)


def sentence_of(answer: str, command: str | None) -> str:
    """Describe an answer of the sort REFUSED: the refusal, and the change that helps."""
    text = answer.rstrip(".")
    if word_of(answer) in _CLUSTER:
        return f"This Redis is a cluster, which is not supported ({text}); name a single primary."
    if word_of(answer) in _LOGIN or "AUTH" in answer or "invalid password" in answer:
        return f"Redis refuses the user or the password ({text}); correct them in the server's address."
    if "DB index" in answer:
        return f"Redis refuses the database ({text}); correct the number at the end of the server's address."
    subject = "a command" if command is None else f"the command {command}"
    return f"Redis refuses {subject} ({text}); give this user the right to it."
