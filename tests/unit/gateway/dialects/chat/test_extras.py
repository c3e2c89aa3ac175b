"""Test the fields beside the deltas, until a chunk takes them. test_stream.py tests their places in the chunks."""

from typing import Any

import pytest

from gateway.dialects.chat.extras import Extras, add_fields, shown_extra
from shared.model.events import START, EventId


def event(seq: int) -> EventId:
    return EventId(1, seq)


def test_reserved_names_are_not_shown() -> None:
    assert shown_extra({"usage": 1, "delta": 2, "stop_reason": 3}) == {"stop_reason": 3}
    assert shown_extra(None) == {}


def test_a_choices_fields_are_taken_once_with_their_last_values() -> None:
    extras = Extras()
    extras.note(event(1), 0, {"a": 1, "b": 1}, None)
    extras.note(event(2), 0, {"b": 2}, {"cite": ["x"]})
    extras.note(event(3), 1, {"c": 3}, None)

    assert extras.waiting == {0, 1}
    assert extras.take(0) == ({"a": 1, "b": 2}, {"cite": ["x"]})
    assert extras.waiting == {1}
    assert extras.take(0) == ({}, {})
    assert extras.take(1) == ({"c": 3}, {})
    assert extras.waiting == set()


@pytest.mark.parametrize(
    ("before", "more", "after"),
    [
        ({"token_ids": [1], "a": 1}, {"token_ids": [1, 2]}, {"token_ids": [1, 1, 2], "a": 1}),
        ({"list": [1]}, {"list": [2]}, {"list": [2]}),
        ({"token_ids": [1]}, {}, {"token_ids": [1]}),
        ({}, {"token_ids": [1]}, {"token_ids": [1]}),
        ({"token_ids": "odd"}, {"token_ids": [2]}, {"token_ids": [2]}),
    ],
    ids=str,
)
def test_pieces_add_up_and_of_other_fields_the_last_value_counts(
    before: dict[str, Any], more: dict[str, Any], after: dict[str, Any]
) -> None:
    add_fields(before, more)

    assert before == after


def test_pieces_that_wait_add_up() -> None:
    extras = Extras()
    for seq in (1, 2, 3):
        extras.note(event(seq), 0, {"token_ids": [seq]}, None)

    assert extras.take(0) == ({"token_ids": [1, 2, 3]}, {})


def test_a_choice_waits_even_without_fields() -> None:
    extras = Extras()
    extras.note(event(1), 2, None, None)
    extras.note(event(2), 2, None, None)

    assert extras.waiting == {2}
    assert extras.take(2) == ({}, {})


def test_scalars_of_the_chunk_stay_and_objects_do_not() -> None:
    extras = Extras()
    extras.note(event(1), 0, None, {"fp": "a", "n": 0, "list": [1]})

    assert extras.take(0) == ({}, {"list": [1]})
    assert extras.stays == {"fp": "a", "n": 0}
    extras.note(event(2), 0, None, {"fp": [1]})
    extras.note(event(3), 0, None, {"fp": "b", "n": {}})
    assert extras.take(0) == ({}, {"n": {}})
    assert extras.stays == {"fp": "b"}


def test_fields_that_were_taken_back_do_not_wait() -> None:
    extras = Extras()
    extras.note(event(1), 0, {"a": 1}, None)
    extras.note(event(2), 1, {"b": 2}, {"fp": "x"})
    extras.forget_after(event(1))

    assert extras.waiting == {0}
    extras.forget_after(START)
    assert extras.take(0) == ({}, {})
    assert extras.stays == {}
