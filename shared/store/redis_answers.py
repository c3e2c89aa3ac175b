"""The error answers of Redis and Valkey, sorted: by the first word, and by a phrase if the word is only `ERR`.

Pure. Not here: raising them (client.py).
"""

from enum import Enum
from typing import Final


class Sort(Enum):
    """The meaning of an error answer for its caller."""

    PASSING = "the server can't serve now: wait and try again"
    FULL = "the server takes in nothing more until memory is freed"
    REFUSED = "this user, database or kind of server is not served: a person has to change something"
    DEFECT = "the command was wrong: a defect of Tailrace, or of the data"


_BY_WORD: Final = {
    "LOADING": Sort.PASSING,  # it has just started
    "MASTERDOWN": Sort.PASSING,  # a replica without its primary
    "READONLY": Sort.PASSING,  # a primary that was demoted
    "UNBLOCKED": Sort.PASSING,  # the same, to a command that was waiting
    "MISCONF": Sort.PASSING,  # it can't write to its disk
    "NOREPLICAS": Sort.PASSING,
    "BUSY": Sort.PASSING,  # a script runs for too long
    "TRYAGAIN": Sort.PASSING,
    "CLUSTERDOWN": Sort.PASSING,
    "OOM": Sort.FULL,
    "NOPERM": Sort.REFUSED,
    "WRONGPASS": Sort.REFUSED,
    "NOAUTH": Sort.REFUSED,
    "DENIED": Sort.REFUSED,  # protected mode
    "NOPROTO": Sort.REFUSED,
    "MOVED": Sort.REFUSED,
    "ASK": Sort.REFUSED,
    "CROSSSLOT": Sort.REFUSED,
}
_BY_PHRASE: Final = {
    "max number of clients": Sort.PASSING,
    "ACL failure in script": Sort.REFUSED,
    "unknown command": Sort.REFUSED,
    "without any password configured": Sort.REFUSED,
    "AUTH, but no password is set": Sort.REFUSED,
    "invalid password": Sort.REFUSED,
    "DB index is out of range": Sort.REFUSED,
    "invalid DB index": Sort.REFUSED,
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


def sort_of(answer: str) -> Sort:
    """Sort an error answer."""
    word = word_of(answer)
    if word in _BY_WORD:
        return _BY_WORD[word]
    return next((sort for phrase, sort in _BY_PHRASE.items() if phrase in answer), Sort.DEFECT)


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
