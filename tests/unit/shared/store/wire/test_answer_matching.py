"""Test the pairing of commands and answers, byte by byte."""

from collections.abc import Iterable

import pytest

from shared.store.wire.answer_matching import AnswerMatcher, OutOfStep

GET = b"*2\r\n$3\r\nGET\r\n$1\r\n%b\r\n"
TOKEN = b"nonce"


class Refused(Exception):
    """An error answer."""


def matcher(abandoned: Iterable[str] = ()) -> AnswerMatcher[str]:
    """Make a matcher with names as waiters."""
    return AnswerMatcher(TOKEN, Refused, lambda waiter: waiter in abandoned)


def sent(*names: str) -> AnswerMatcher[str]:
    """Make a matcher that has written a command for each name."""
    made = matcher()
    for name in names:
        made.add(name, GET % name.encode())
    made.next_write(1.0)
    return made


def bulk(text: bytes) -> bytes:
    """Encode a text as a server does."""
    return b"$%d\r\n%b\r\n" % (len(text), text)


def token(number: int) -> bytes:
    """Encode the answer to a write's token."""
    return bulk(b"%b %d" % (TOKEN, number))


def test_commands_are_written_in_their_order_with_a_token_behind_them() -> None:
    commands = matcher()
    commands.add("a", GET % b"a")
    commands.add("b", GET % b"b")

    assert commands.next_write(1.0) == GET % b"a" + GET % b"b" + b"*2\r\n$4\r\nECHO\r\n" + token(1)
    assert commands.next_write(2.0) == b""
    commands.add("c", GET % b"c")
    assert commands.next_write(3.0) == GET % b"c" + b"*2\r\n$4\r\nECHO\r\n" + token(2)
    assert commands.oldest_sent_at == 1.0


def test_each_waiter_gets_its_answer_when_the_token_is_there() -> None:
    commands = sent("a", "b")

    assert list(commands.receive(bulk(b"A") + bulk(b"B"))) == []
    assert list(commands.receive(token(1))) == [("a", b"A"), ("b", b"B")]
    assert commands.is_idle
    assert commands.oldest_sent_at is None


def test_answers_may_come_in_any_pieces() -> None:
    commands = sent("a", "b")
    answers = b"*2\r\n$1\r\nx\r\n:7\r\n" + b"$-1\r\n" + token(1)

    found = [pair for byte in answers for pair in commands.receive(bytes([byte]))]

    assert found == [("a", [b"x", 7]), ("b", None)]


def test_several_writes_may_be_answered_at_once() -> None:
    commands = sent("a")
    commands.add("b", GET % b"b")
    commands.next_write(2.0)

    assert list(commands.receive(bulk(b"A") + token(1) + bulk(b"B") + token(2))) == [("a", b"A"), ("b", b"B")]


def test_an_error_answer_is_the_answer_of_its_own_waiter() -> None:
    (_, first), (_, error), (_, last) = sent("a", "b", "c").receive(bulk(b"A") + b"-ERR no\r\n" + bulk(b"C") + token(1))

    assert (first, last) == (b"A", b"C")
    assert isinstance(error, Refused) and error.args == ("ERR no",)


@pytest.mark.parametrize(
    "answers",
    [
        bulk(b"A") + bulk(b"A") + bulk(b"B") + token(1),
        bulk(b"A") + bulk(b"B") + bulk(b"B") + token(1),
        bulk(b"A") + token(1) + bulk(b"B"),
        bulk(b"A") + bulk(b"B") + token(2),
        bulk(b"A") + bulk(b"B") + b":1\r\n",
        b"HTTP/1.1 400 Bad Request\r\n",
    ],
    ids=["the first twice", "the last twice", "one missing", "another token", "a number as token", "noise"],
)
def test_answers_that_cannot_belong_to_the_commands_reach_no_waiter(answers: bytes) -> None:
    commands = sent("a", "b")
    found = []

    with pytest.raises(OutOfStep):
        found += list(commands.receive(answers))

    assert found == []
    assert commands.abandon_all() == ["a", "b"]


def test_an_answer_without_a_command_is_out_of_step() -> None:
    answered = sent("a").receive(bulk(b"A") + token(1) + bulk(b"A"))

    assert next(answered) == ("a", b"A")
    with pytest.raises(OutOfStep):
        next(answered)


def test_a_second_answer_that_comes_late_reaches_no_waiter_of_the_next_write() -> None:
    commands = sent("a")
    assert list(commands.receive(bulk(b"A") + token(1))) == [("a", b"A")]
    commands.add("b", GET % b"b")
    commands.next_write(2.0)

    with pytest.raises(OutOfStep):
        list(commands.receive(bulk(b"A") + bulk(b"B") + token(2)))


def test_if_the_token_is_refused_only_errors_are_believed() -> None:
    (_, first), (_, second), (_, third) = sent("a", "b", "c").receive(
        bulk(b"A") + b"-OOM full\r\n" + bulk(b"C") + b"-BUSY\r\n"
    )

    assert [str(each) for each in (first, second, third)] == ["BUSY", "OOM full", "BUSY"]
    assert all(isinstance(each, Refused) for each in (first, second, third))
    assert first is not third


def test_a_push_message_belongs_to_no_command() -> None:
    assert list(sent("a").receive(b">2\r\n$1\r\nx\r\n$1\r\ny\r\n" + bulk(b"A") + token(1))) == [("a", b"A")]


def test_an_abandoned_command_that_was_not_written_is_never_sent() -> None:
    abandoned: list[str] = []
    commands = matcher(abandoned)
    commands.add("a", GET % b"a")
    commands.add("b", GET % b"b")
    abandoned.append("a")

    assert commands.next_write(1.0).startswith(GET % b"b")
    assert commands.unanswered_bytes == len(GET % b"b")
    assert list(commands.receive(bulk(b"B") + token(1))) == [("b", b"B")]


def test_abandoned_commands_are_not_written() -> None:
    commands = matcher("a")
    commands.add("a", GET % b"a")

    assert commands.next_write(1.0) == b""
    assert (commands.is_idle, commands.unanswered_bytes) == (True, 0)


def test_the_bytes_of_a_command_count_until_its_answer_is_there() -> None:
    commands = sent("a")
    commands.add("b", GET % b"bb")
    assert commands.unanswered_bytes == len(GET % b"a") + len(GET % b"bb")

    list(commands.receive(bulk(b"A") + token(1)))

    assert commands.unanswered_bytes == len(GET % b"bb")
    assert not commands.is_idle


def test_all_waiters_without_an_answer_can_be_abandoned() -> None:
    commands = sent("a", "b")
    commands.add("c", GET % b"c")

    assert commands.abandon_all() == ["a", "b", "c"]
    assert (commands.is_idle, commands.unanswered_bytes, commands.oldest_sent_at) == (True, 0, None)
