"""Test registries: each value is found by its name, no two have one name, and an addition changes no registry."""

from dataclasses import dataclass

import pytest

from shared.model.errors import StartupError
from shared.model.registry import Registry


@dataclass(frozen=True)
class Fruit:
    """A value with a name."""

    name: str


APPLE, PEAR, PLUM = Fruit("apple"), Fruit("pear"), Fruit("plum")


def test_each_value_is_found_by_its_name_in_the_given_order() -> None:
    fruits = Registry("fruit", (PEAR, APPLE))

    assert list(fruits.items()) == [("pear", PEAR), ("apple", APPLE)]
    assert (len(fruits), fruits.names, "plum" in fruits) == (2, "pear, apple", False)


def test_an_addition_makes_another_registry() -> None:
    fruits = Registry("fruit", (APPLE,))

    assert list(fruits.adding(PEAR, PLUM)) == ["apple", "pear", "plum"]
    assert list(fruits) == ["apple"]


@pytest.mark.parametrize("added", [(APPLE,), (PEAR, PEAR)])
def test_two_values_of_one_name_are_refused_by_that_name(added: tuple[Fruit, ...]) -> None:
    with pytest.raises(StartupError, match=f"Two fruits are named {added[0].name}; each must have a name of its own."):
        Registry("fruit", (APPLE,)).adding(*added)
