"""Test error answers of Redis: the meaning of each, and the sentence for those that an operator must fix."""

import pytest

from shared.store.wire.redis_answers import ErrorClass, error_class_of, has_word, sentence_of, word_of

CORRECT_THEM = "correct them in the server's address."
CORRECT_IT = "correct the number at the end of the server's address."
ANSWERS = {
    "LOADING Valkey is loading the dataset in memory": ErrorClass.PASSING,
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.": ErrorClass.PASSING,
    "READONLY You can't write against a read only replica. script: f, on @user_function:1.": ErrorClass.PASSING,
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)": ErrorClass.PASSING,
    "MISCONF Errors writing to the AOF file: No space left on device": ErrorClass.PASSING,
    "NOREPLICAS Not enough good replicas to write.": ErrorClass.PASSING,
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.": ErrorClass.PASSING,
    "TRYAGAIN Multiple keys request during rehashing of slot": ErrorClass.PASSING,
    "CLUSTERDOWN Hash slot not served": ErrorClass.PASSING,
    "ERR max number of clients reached": ErrorClass.PASSING,
    "OOM command not allowed when used memory > 'maxmemory'.": ErrorClass.FULL,
    "NOPERM User tail has no permissions to run the 'fcall' command": ErrorClass.REFUSED,
    "ERR ACL failure in script: No permissions to access a key": ErrorClass.REFUSED,
    "WRONGPASS invalid username-password pair or user is disabled.": ErrorClass.REFUSED,
    "NOAUTH Authentication required.": ErrorClass.REFUSED,
    "DENIED Redis is running in protected mode": ErrorClass.REFUSED,
    "ERR unknown command 'FUNCTION', with args beginning with: 'LIST'": ErrorClass.REFUSED,
    "ERR DB index is out of range": ErrorClass.REFUSED,
    "MOVED 3999 127.0.0.1:6381": ErrorClass.REFUSED,
    "CROSSSLOT Keys in request don't hash to the same slot": ErrorClass.REFUSED,
    "WRONGTYPE Operation against a key holding the wrong kind of value": ErrorClass.DEFECT,
    "ERR Function not found": ErrorClass.DEFECT,
    "BUSYKEY Target key name already exists.": ErrorClass.DEFECT,
    "BUSYGROUP Consumer Group name already exists": ErrorClass.DEFECT,
    "": ErrorClass.DEFECT,
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_each_answer_has_its_sort(answer: str) -> None:
    assert error_class_of(answer) is ANSWERS[answer]


def test_the_first_word_names_an_answer() -> None:
    assert word_of("MASTERDOWN Link with MASTER is down") == "MASTERDOWN"


@pytest.mark.parametrize(
    ("text", "there"),
    [
        ("WRONGTYPE Operation against a key", True),
        ("MISCONF Errors", True),
        ("DB index is out of range", False),
        ("", False),
    ],
)
def test_an_answer_with_an_error_word_is_distinguished_from_one_without(text: str, there: bool) -> None:
    assert has_word(text) is there


@pytest.mark.parametrize(
    ("answer", "command", "sentence"),
    [
        (
            "NOPERM No permissions to access a key",
            "FCALL",
            "Redis refuses the command FCALL (NOPERM No permissions to access a key); give this user the right to it.",
        ),
        (
            "NOPERM No permissions to access a key.",
            None,
            "Redis refuses a command (NOPERM No permissions to access a key); give this user the right to it.",
        ),
        (
            "NOAUTH Authentication required.",
            "INFO",
            f"Redis refuses the user or the password (NOAUTH Authentication required); {CORRECT_THEM}",
        ),
        (
            "ERR DB index is out of range",
            "INFO",
            f"Redis refuses the database (ERR DB index is out of range); {CORRECT_IT}",
        ),
        (
            "MOVED 3999 127.0.0.1:6381",
            "SET",
            "This Redis is a cluster, which is not supported (MOVED 3999 127.0.0.1:6381); name a single primary.",
        ),
    ],
)
def test_a_refusal_is_one_sentence_with_the_change_to_make(answer: str, command: str | None, sentence: str) -> None:
    assert sentence_of(answer, command) == sentence
