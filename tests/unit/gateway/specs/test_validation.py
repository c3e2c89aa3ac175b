"""Test the fields of requests that become another request for the provider."""

import pytest

from gateway.specs.validation import embedding_of
from shared.model.bounds import DIMENSIONS
from shared.model.errors import InvalidRequest


@pytest.mark.parametrize("given", [{}, {"dimensions": None}], ids=["absent", "null"])
def test_an_embedding_without_dimensions_has_no_such_field(given: dict[str, None]) -> None:
    assert embedding_of({"model": "m", "input": "a", **given}, 3) == {"model": "m", "input": ["a"]}


def test_an_embedding_keeps_its_dimensions() -> None:
    assert embedding_of({"input": "a", "dimensions": 8}, 3) == {"input": ["a"], "dimensions": 8}


@pytest.mark.parametrize("dimensions", [0, DIMENSIONS + 1, 1.5, "8", True])
def test_other_dimensions_are_refused_by_name(dimensions: object) -> None:
    with pytest.raises(InvalidRequest) as refused:
        embedding_of({"input": "a", "dimensions": dimensions}, 3)

    assert refused.value.param == "dimensions"
