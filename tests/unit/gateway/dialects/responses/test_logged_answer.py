"""Test the state of an answer in its job's log."""

from typing import Any

import pytest

from gateway.dialects.responses.logged_answer import AnswerLog, LoggedAnswer
from shared.model.events import EventId, EventType, encode_data, encode_frame

SIGNED = {"extra_content": {"google": {"thought_signature": "s"}}}
NOTHING = LoggedAnswer()


class Log:
    """Build the frames of one job."""

    def __init__(self) -> None:
        self._seq = 0
        self._reader = AnswerLog()

    def delta(self, **data: Any) -> "Log":
        """Log a delta."""
        return self.event(EventType.DELTA, **data)

    def fragment(self, **fragment: Any) -> "Log":
        """Log a fragment of a call."""
        return self.delta(tool_calls=[fragment])

    def event(self, kind: EventType, **data: Any) -> "Log":
        """Log any event."""
        self._seq += 1
        self._reader.accept(encode_frame(kind, encode_data(data), EventId(1, self._seq)))
        return self

    def answer(self) -> LoggedAnswer:
        """Return the answer that the reader found."""
        return self._reader.answer()


def test_the_state_is_the_thoughts_and_the_further_fields_of_each_call() -> None:
    log = Log().delta(reasoning_content="I must ").delta(content="Hm.").delta(reasoning_content="look.")
    log.fragment(index=0, id="a", type="function", function={"name": "f"}, **SIGNED)
    log.fragment(index=0, function={"arguments": "{}"}, more=1).fragment(index=1, id="b", function={"name": "g"})
    log.fragment(index=1, custom={"input": "x"}, signature="t").fragment(index=2, id="c", function={"name": "h"})

    assert log.answer() == LoggedAnswer("I must look.", {"a": {**SIGNED, "more": 1}, "b": {"signature": "t"}, "c": {}})


def test_further_fields_of_the_inner_object_are_kept_under_its_name() -> None:
    log = Log().fragment(index=0, id="a", type="function", function={"name": "f", "thought": "t"}, signature="s")
    log.fragment(index=1, id="b", type="custom", custom={"name": "g", "input": "", "thought": "t"})

    assert log.answer().calls == {
        "a": {"signature": "s", "function": {"thought": "t"}},
        "b": {"custom": {"thought": "t"}},
    }


def test_an_answer_without_calls_has_no_state_to_give_back() -> None:
    assert Log().delta(reasoning_content="Hm.").delta(content="Hello").answer() == NOTHING


def test_rolled_back_events_are_not_in_the_answer() -> None:
    log = Log().delta(reasoning_content="One.").fragment(index=0, id="a", **SIGNED)
    log.delta(reasoning_content="Two.").fragment(index=1, id="b", **SIGNED)

    log.event(EventType.ROLLBACK, to="1-2").fragment(index=1, id="c", **SIGNED)

    assert log.answer() == LoggedAnswer("One.", {"a": SIGNED, "c": SIGNED})


def test_only_the_first_choice_counts() -> None:
    assert Log().delta(index=1, tool_calls=[{"index": 0, "id": "a", **SIGNED}]).answer() == NOTHING


@pytest.mark.parametrize("calls", ["none", ["none"], [{"index": {}, "id": "a", "x": 1}], [{"index": 0, "x": 1}]])
def test_malformed_fragments_are_passed_over(calls: Any) -> None:
    assert Log().delta(tool_calls=calls, reasoning_content=7).answer() == NOTHING
