"""Test the bounded cache of answers' state."""

from gateway.dialects.responses.logged_answer import LoggedAnswer
from gateway.dialects.responses.recent_answers import RecentAnswers

SIGNED = LoggedAnswer("Hm.", {"a": {"signature": "s"}})
LARGE = LoggedAnswer("x" * 100, {"a": {}})
NOTHING = LoggedAnswer()


def test_an_empty_state_of_an_answer_is_remembered_too() -> None:
    recent = RecentAnswers()
    recent.put("one", SIGNED)
    recent.put("two", NOTHING)

    assert (recent.get("one"), recent.get("two"), recent.get("three")) == (SIGNED, NOTHING, None)


def test_the_answers_that_were_used_longest_ago_are_forgotten() -> None:
    recent = RecentAnswers(most=2)
    recent.put("one", SIGNED)
    recent.put("two", SIGNED)
    recent.get("one")
    recent.put("three", SIGNED)

    assert [recent.get(each) is None for each in ("one", "two", "three")] == [False, True, False]


def test_the_bytes_of_all_answers_are_bounded() -> None:
    recent = RecentAnswers(most_bytes=300)
    for job in ("one", "two", "three"):
        recent.put(job, LARGE)
    assert [recent.get(each) is None for each in ("one", "two", "three")] == [True, False, False]

    recent.put("four", LoggedAnswer("x" * 1000, {"a": {}}))
    assert [recent.get(each) is None for each in ("two", "three", "four")] == [True, True, True]
    recent.put("five", LARGE)
    assert recent.get("five") == LARGE


def test_an_answer_that_is_put_again_counts_once() -> None:
    recent = RecentAnswers(most_bytes=300)
    for _ in range(10):
        recent.put("one", LARGE)
        recent.put("two", LARGE)

    assert (recent.get("one"), recent.get("two")) == (LARGE, LARGE)
