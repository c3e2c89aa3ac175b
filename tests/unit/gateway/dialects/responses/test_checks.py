"""Test the checks of single values: each returns the value, or names it and the valid form."""

from collections.abc import Callable
from typing import Any

import pytest

from gateway.dialects.responses.checks import flag, list_of, need, object_of, one_of, text_of, whole_number
from shared.model.errors import InvalidRequest


def test_a_value_of_the_right_type_passes() -> None:
    assert object_of({"a": 1}, "x") == {"a": 1}
    assert list_of([1], "x") == [1]
    assert flag({"x": False}, "x", True) is False
    assert text_of({"x": "a"}, "x") == "a"
    assert [whole_number({"x": value}, "x", 0, 2) for value in (0, 2)] == [0, 2]
    need({"a": "", "b": [], "c": {}}, "x", a=str, b=(str, list), c=dict)
    one_of("a", "x", ("a", "b"))


def test_a_missing_value_has_a_default() -> None:
    assert object_of(None, "x") == {}
    assert list_of(None, "x") == []
    assert flag({}, "x", True) is True
    assert text_of({"x": None}, "x") == ""
    assert whole_number({}, "x", 0) is None
    one_of(None, "x", ("a",))


@pytest.mark.parametrize(
    ("check", "sentence"),
    [
        (lambda: object_of([], "x"), "x must be an object."),
        (lambda: object_of(None, "x", optional=False), "x must be an object."),
        (lambda: list_of({}, "x"), "x must be a list."),
        (lambda: flag({"x": 1}, "x", True), "x must be true or false."),
        (lambda: text_of({"x": 1}, "x"), "x must be a string."),
        (lambda: text_of({"x": 1}, "x", "y.x"), "y.x must be a string."),
        (lambda: whole_number({"x": 3}, "x", 0, 2), "x must be a whole number from 0 to 2."),
        (lambda: whole_number({"x": 0}, "x", 1), "x must be a whole number from 1."),
        (lambda: whole_number({"x": True}, "x", 0), "x must be a whole number from 0."),
        (lambda: whole_number({"x": 1.0}, "x", 0), "x must be a whole number from 0."),
        (lambda: need({}, "x", a=str), "x.a must be a string."),
        (lambda: need({"a": 1}, "x", a=(str, list)), "x.a must be a string or a list."),
        (lambda: one_of(["a"], "x", ("a", "b")), "x must be one of: a, b."),
    ],
    ids=range(13),
)
def test_any_other_value_is_refused_by_its_name(check: Callable[[], Any], sentence: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check()

    assert str(caught.value) == sentence
    assert caught.value.param == sentence.split(" ")[0]
