"""Test the preparation of embeddings: the spec of a job, and the form of its vectors."""

import json
from typing import Any

import pytest

from gateway.dialects.embeddings import Encoding
from gateway.preparation.embeddings import prepare_embeddings
from shared.model.errors import InvalidRequest
from shared.model.kinds import EMBEDDINGS
from tests.support.heads import head


def raw(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "input": "A river.", **fields}).encode()


def test_embeddings_are_prepared_with_the_form_of_their_vectors() -> None:
    prepared = prepare_embeddings(raw(encoding_format="base64"), head())

    assert prepared.encoding is Encoding.BASE64
    assert prepared.spec.kind == EMBEDDINGS
    assert json.loads(prepared.spec.request) == {"model": "m", "input": ["A river."]}


@pytest.mark.parametrize(
    ("fields", "param"), [({"encoding_format": "hex"}, "encoding_format"), ({"input": ""}, "input")]
)
def test_a_bad_request_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        prepare_embeddings(raw(**fields), head())
    assert caught.value.param == param
