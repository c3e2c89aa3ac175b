"""Test the shapes of `input`, and the error for every other value."""

from typing import Any

import pytest

from gateway.specs.embedding_input import read_input
from shared.model.errors import InvalidRequest

MOST = 3


@pytest.mark.parametrize(
    ("value", "inputs"),
    [
        ("a", ["a"]),
        (["a", "b", " "], ["a", "b", " "]),
        ([1, 2, 3, 0], [[1, 2, 3, 0]]),  # tokens of one input are not counted as inputs
        ([[1], [2, 3]], [[1], [2, 3]]),
    ],
)
def test_each_of_the_four_shapes_becomes_a_list_of_inputs(value: Any, inputs: list[Any]) -> None:
    assert read_input(value, MOST) == inputs


@pytest.mark.parametrize(
    ("value", "param", "says"),
    [
        (None, "input", "input must be a string, a list of strings, a list of tokens or a list of lists of tokens."),
        ({}, "input", "input must be a string"),
        ("", "input", "input must not be empty."),
        ([], "input", "input must not be empty."),
        (["a"] * 4, "input", "input must be at most 3 inputs, and is 4."),
        ([[1]] * 4, "input", "input must be at most 3 inputs, and is 4."),
        (["a", ""], "input[1]", r"input\[1\] must not be empty."),
        (["a", [1]], "input[1]", r"input\[1\] must be a string, as the others are"),
        (["a", 1], "input[1]", r"input\[1\] must be a string, as the others are"),
        ([[1], []], "input[1]", r"input\[1\] must not be empty."),
        ([[1], "a"], "input[1]", r"input\[1\] must be a string or a list of tokens"),
        ([None], "input[0]", r"input\[0\] must be a string or a list of tokens"),
        ([True], "input[0]", r"input\[0\] must be a string or a list of tokens"),
        ([1, "a"], "input[1]", r"input\[1\] must be a token, a whole number from 0 to 2147483647."),
        ([[1, -1]], "input[0][1]", r"input\[0\]\[1\] must be a token"),
        ([[1, 2**31]], "input[0][1]", r"input\[0\]\[1\] must be a token"),
        ([[1, 1.5]], "input[0][1]", r"input\[0\]\[1\] must be a token"),
    ],
)
def test_anything_else_is_refused_and_its_place_is_named(value: Any, param: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{says}") as caught:
        read_input(value, MOST)

    assert caught.value.param == param
