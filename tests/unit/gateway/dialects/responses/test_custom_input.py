"""Test the input of a custom tool, from a function's arguments as they arrive."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.responses.custom_input import CustomInput

awkward = st.text() | st.text(alphabet='"\\\n\t/bfnrtu{}🌊\u2028\x00', max_size=12)


def pieces(*arguments: str) -> list[str]:
    """Return the input that each piece adds, and the end."""
    decoder = CustomInput()
    return [*map(decoder.feed, arguments), decoder.end()]


def decoded(*arguments: str) -> str:
    return "".join(pieces(*arguments))


@given(awkward, st.booleans(), st.sampled_from([None, 1]), st.lists(st.integers(0, 200), max_size=6))
def test_the_input_is_the_same_wherever_its_arguments_are_cut(
    text: str, ascii_only: bool, indent: int | None, cuts: list[int]
) -> None:
    arguments = json.dumps({"input": text}, ensure_ascii=ascii_only, indent=indent)
    edges = [0, *sorted(min(cut, len(arguments)) for cut in cuts), len(arguments)]

    assert decoded(*(arguments[start:end] for start, end in pairwise(edges))) == text


def test_the_input_is_decoded_while_it_arrives() -> None:
    assert pieces('{ "input" :', ' "one', "\\", "ntwo", "\\u00", "e9", '"', " }", "more") == [
        *("", "one", "", "\ntwo", "", "é", "", "", "", ""),
    ]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ('{"input":"\\ud83c', "\ufffd"),
        ('{"input":"\\ud83cx"}', "\ufffdx"),
        ('{"input":"\\ud83c\\n"}', "\ufffd\n"),
        ('{"input":"\\ud83c\\ud83c\\udf0a"}', "\ufffd🌊"),
        ('{"input":"\\udf0a"}', "\ufffd"),
        ('{"x":1,"input":"\\ud83c"}', "\ufffd"),
    ],
)
def test_half_a_character_becomes_a_replacement_character(arguments: str, text: str) -> None:
    assert decoded(arguments) == text
    assert decoded(*arguments) == text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ('{"input":"a\\qb"}', "aqb"),
        ('{"input":"a\\uzzzzb"}', "auzzzzb"),
        ('{"input":"a\nb"}', "a\nb"),
        ('{"input":"a', "a"),
        ('{"input":"a\\', "a"),
        ('{"input":"a\\u00', "a"),
        ('{"input":"a","x":1}', "a"),
    ],
)
def test_a_text_with_mistakes_or_without_an_end_is_read_as_far_as_it_goes(arguments: str, text: str) -> None:
    assert decoded(arguments) == text
    assert decoded(*arguments) == text


@pytest.mark.parametrize("arguments", ["", "  ", "*** Begin", '"a"', "[1]", "{", '{"x":1}', '{"input":1}', "{" * 3000])
def test_arguments_without_a_text_are_the_input_themselves(arguments: str) -> None:
    assert decoded(arguments) == arguments
    assert decoded(*arguments) == arguments


def test_arguments_that_can_not_be_an_object_are_not_held_back() -> None:
    assert pieces(" ", "*** ", '{"input":"x"}') == ["", " *** ", '{"input":"x"}', ""]


@pytest.mark.parametrize("before", ['"x":1', '"x":"' + "y" * 1000 + '"'], ids=["short", "long"])
def test_an_input_behind_other_fields_is_found_at_the_end(before: str) -> None:
    arguments = f'{{{before},"input":"one\ntwo"}}'

    assert pieces(*arguments)[-1] == "one\ntwo"
    assert decoded(arguments) == "one\ntwo"
