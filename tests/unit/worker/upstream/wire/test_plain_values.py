"""Test values that are passed on."""

import json
from typing import Any

import pytest

from shared.model.errors import ProviderGarbage
from worker.upstream.wire.plain_values import MAX_DEPTH, plain


def nested(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("value", [None, True, 1, 0.5, "é", [{"a": ["🌊"]}], nested(MAX_DEPTH)])
def test_json_is_passed_on_as_it_came(value: Any) -> None:
    assert plain(value) == value


def test_a_number_that_json_has_no_word_for_is_null() -> None:
    value = json.loads('{"a": [-Infinity, NaN, 1e999, 0.5], "b": 1}')
    assert plain(value) == {"a": [None, None, None, 0.5], "b": 1}


def test_lone_halves_of_characters_are_replaced_in_names_and_texts() -> None:
    assert plain({"a\ud83d": ["\ude00", 1]}) == {"a\ufffd": ["\ufffd", 1]}


@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 900, 5000])
def test_a_value_that_is_nested_too_deeply_is_garbage(levels: int) -> None:
    with pytest.raises(ProviderGarbage, match="nested more than 128 levels"):
        plain(nested(levels))


def test_many_flat_lists_are_not_deep() -> None:
    assert plain([[] for _ in range(1000)]) == [[] for _ in range(1000)]
