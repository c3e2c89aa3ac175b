"""Test the parameters of a chat request: any JSON value is taken or refused, and the error names the field."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.chat_parameters import CHAT_FIELDS, check_parameters
from shared.model.errors import InvalidRequest

NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(("type", "function", "custom", "name", "json_schema", "include_usage")) | st.text(),
            inner,
            max_size=4,
        )
    ),
)


def refused(body: dict[str, Any]) -> InvalidRequest | None:
    """Return the error, if there is one."""
    try:
        check_parameters(body)
    except InvalidRequest as error:
        return error
    return None


@given(st.sampled_from(sorted(CHAT_FIELDS)), JSON)
def test_any_value_is_taken_or_refused_by_the_name_of_its_field(name: str, value: Any) -> None:
    error = refused({name: value})

    if error is not None:
        assert error.param is not None
        assert error.param == name or error.param.startswith((f"{name}.", f"{name}["))
        assert str(error).startswith(error.param)


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_a_body_without_known_fields_passes(body: dict[str, Any]) -> None:
    assert refused({name: value for name, value in body.items() if name not in CHAT_FIELDS}) is None
