"""Test near misses of Tailrace's own fields: any slip and any notation of a name is noticed, a known field never is."""

import string
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.specs.own_fields import OWN_FIELDS, check_foreign, check_native, nearest
from shared.model.errors import InvalidRequest
from tests.support.known_fields import KNOWN_FIELDS

# A wrong letter makes other words of the short ones.
LONG = tuple(name for name in OWN_FIELDS if name not in ("kind", "lane", "timeout_s", "webhook", "after"))
letters = st.sampled_from(string.ascii_lowercase)


def words(name: str) -> list[str]:
    return name.split("_")


def camel(name: str) -> str:
    first, *others = words(name)
    return first + "".join(each.capitalize() for each in others)


@st.composite
def slips(draw: st.DrawFn) -> tuple[str, str]:
    """Generate a long own name, and the same with one letter left out, added, replaced or swapped within a word."""
    own = draw(st.sampled_from(LONG))
    parts = words(own)
    which = draw(st.sampled_from([at for at, word in enumerate(parts) if len(word) > 2]))
    word = parts[which]
    at = draw(st.integers(0, len(word) - 2))
    letter = draw(letters)
    parts[which] = draw(
        st.sampled_from(
            [
                word[:at] + word[at + 1 :],
                word[:at] + letter + word[at:],
                word[:at] + letter + word[at + 1 :],
                word[:at] + word[at + 1] + word[at] + word[at + 2 :],
            ]
        )
    )
    return own, "_".join(parts)


@st.composite
def ways(draw: st.DrawFn) -> tuple[str, str]:
    """Generate an own name, and another way to write it."""
    own = draw(st.sampled_from(OWN_FIELDS))
    way = draw(st.sampled_from([str.upper, camel, lambda name: name.replace("_", "-"), "x_tailrace_".__add__]))
    return own, way(own)


@given(slips())
def test_one_slip_in_a_long_name_is_noticed(slip: tuple[str, str]) -> None:
    own, name = slip
    assert nearest(name, OWN_FIELDS) == own


@given(ways())
def test_every_way_to_write_a_name_is_noticed(way: tuple[str, str]) -> None:
    own, name = way
    assert nearest(name, OWN_FIELDS) == own


@given(
    st.dictionaries(st.sampled_from(KNOWN_FIELDS), st.just(1)), st.sampled_from(["lane", "timeout_s", "onDisconnect"])
)
def test_an_own_field_is_found_among_known_ones_and_they_pass(body: dict[str, int], own: str) -> None:
    check_foreign(body)
    with pytest.raises(InvalidRequest) as caught:
        check_foreign({**body, own: 1})
    assert caught.value.param == own


@given(st.dictionaries(st.text(), st.none() | st.integers()))
def test_any_body_is_answered(body: dict[str, int | None]) -> None:
    for check in (check_native, check_foreign):
        assert refused(check, body) in (None, *body)


def refused(check: Callable[[Mapping[str, Any]], None], body: Mapping[str, Any]) -> str | None:
    """Return the name that the error is about; None without an error."""
    try:
        check(body)
    except InvalidRequest as error:
        return error.param
    return None
