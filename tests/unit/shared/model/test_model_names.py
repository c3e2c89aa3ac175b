"""Test which names of models are offered, and which can be requested."""

from typing import Any

import pytest

from shared.model.bounds import MODELS
from shared.model.model_names import MODEL_CHARS, ModelListing, is_model_name, offered

GOOD = ["m", "vendor/model:1b-Q4_K_M", "größe 7b", "通义千问", "🦙", "x" * MODEL_CHARS]
BAD = [
    *("", "x" * (MODEL_CHARS + 1), "x" * 10_000, "a\nb", "a\x00", "\x1b[2J", "a\x9b31m", "\x7f", "a\u2028b"),
    *("a\u202eb", "a\u2066b", "a\u200bb", "a\u061cb", "\ud800", "a\udfff", "\ue000", "a\u00a0b"),
    *(None, 7, True, ["m"], {"id": "m"}),
]


@pytest.mark.parametrize("name", GOOD)
def test_a_name_of_printable_characters_is_one(name: str) -> None:
    assert is_model_name(name)


@pytest.mark.parametrize("name", BAD, ids=lambda name: f"{ascii(name)[:20]} {len(str(name))}")
def test_anything_else_is_not_a_model_name(name: object) -> None:
    assert not is_model_name(name)


def test_the_names_of_a_list_are_offered_sorted_and_once() -> None:
    mixed: list[Any] = ["b", *(each for each in BAD if isinstance(each, str)), "a", "b"]
    assert offered(ModelListing(tuple(mixed), complete=True)) == (("a", "b"), True)
    assert offered(ModelListing(("a",))) == (("a",), False)
    assert offered(ModelListing()) == ((), False)


def test_not_more_are_offered_than_the_bound_and_then_more_may_exist() -> None:
    names = tuple(f"model-{number:06}" for number in range(100_000))

    assert offered(ModelListing(names, complete=True)) == (names[:MODELS], False)
    assert offered(ModelListing(names[:MODELS], complete=True)) == (names[:MODELS], True)
