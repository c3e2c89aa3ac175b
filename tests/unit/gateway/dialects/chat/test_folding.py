"""Test fragments of an object that Tailrace does not know, folded by the shape of their values."""

from typing import Any

import pytest

from gateway.dialects.chat.folding import fold_objects


@pytest.mark.parametrize(
    ("fragments", "whole"),
    [
        ([], {}),
        ([{"a": "x"}, {"a": "y"}], {"a": "xy"}),
        ([{"a": 1}, {"a": 2}], {"a": 2}),
        ([{"a": None}], {"a": None}),
        ([{"a": "x"}, {"a": None}], {"a": "x"}),
        ([{"a": {"b": "x"}}, {"a": {"b": "y", "c": 1}}], {"a": {"b": "xy", "c": 1}}),
        ([{"a": [1]}, {"a": [2]}], {"a": [1, 2]}),
        ([{"a": ["x"]}, {"a": "y"}, {"a": "z"}], {"a": "yz"}),
        (
            [{"a": [{"index": 1, "t": "x"}, "whole"]}, {"a": [{"index": 0}, {"index": 1, "t": "y"}]}],
            {"a": [{"index": 0}, {"index": 1, "t": "xy"}, "whole"]},
        ),
        (
            [{"id": "i", "type": "t", "name": ""}, {"id": "i", "type": "t", "name": "n"}],
            {"id": "i", "type": "t", "name": "n"},
        ),
    ],
    ids=str,
)
def test_values_are_folded_by_their_shape(fragments: list[dict[str, Any]], whole: dict[str, Any]) -> None:
    assert fold_objects(fragments) == whole
