"""Test a delta's annotations, as Responses have them."""

from typing import Any

import pytest

from gateway.dialects.responses.annotations import annotations_of

FIELDS = {"start_index": 1, "end_index": 5, "url": "https://example.test", "title": "An example"}
FLAT = {"type": "url_citation", **FIELDS}


@pytest.mark.parametrize(
    "annotation", [{"type": "url_citation", "url_citation": {**FIELDS, "content": "…"}}, {**FLAT, "content": "…"}]
)
def test_a_citation_may_be_nested_or_flat(annotation: dict[str, Any]) -> None:
    assert list(annotations_of({"annotations": [annotation, annotation]})) == [FLAT, FLAT]


def test_a_citation_without_a_title_and_a_position_gets_empty_ones() -> None:
    bare = {"type": "url_citation", "url": "u", "title": None, "start_index": "1"}

    assert list(annotations_of({"annotations": [bare]})) == [
        {"type": "url_citation", "start_index": 0, "end_index": 0, "url": "u", "title": ""}
    ]


@pytest.mark.parametrize(
    "annotations",
    [None, "none", {}, [None], [{"type": "url_citation"}], [{"type": "url_citation", "url_citation": {"url": 5}}]],
)
def test_others_are_left_out(annotations: Any) -> None:
    assert list(annotations_of({"annotations": annotations})) == []
