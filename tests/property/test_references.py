"""Test the references of a request against a plain model: a request of pieces, of which some are references."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from shared.model.references import Answer, fill, references_in

NAMES = st.sampled_from(["a", "b", "outline-2", "X_y"])
TEXTS = st.text(st.characters(exclude_characters="{}"), max_size=8)
FIELDS = TEXTS.filter(lambda name: name != "$result")
ANSWERS = st.fixed_dictionaries(
    {name: st.builds(Answer, st.text(max_size=8), st.integers()) for name in ("a", "b", "outline-2", "X_y")}
)


@st.composite
def texts(draw: st.DrawFn) -> list[tuple[str, bool]]:
    """Generate the pieces of a text: each is plain, or the name of a parent."""
    return draw(st.lists(st.one_of(st.tuples(TEXTS, st.just(False)), st.tuples(NAMES, st.just(True))), max_size=5))


# A value of a request: the pieces of a text, the name in a value reference, a number, or a list or an object of them.
values = st.recursive(
    st.one_of(
        texts().map(lambda pieces: ("text", pieces)),
        NAMES.map(lambda name: ("value", name)),
        st.integers().map(lambda number: ("plain", number)),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda each: ("list", each)),
        st.dictionaries(TEXTS.filter(lambda name: name != "$result"), inner, max_size=3).map(
            lambda each: ("object", each)
        ),
    ),
    max_leaves=8,
)


def written(value: Any) -> Any:
    """Return a value as a caller writes it."""
    sort, content = value
    match sort:
        case "text":
            return "".join(f"{{{{{text}}}}}" if is_name else text for text, is_name in content)
        case "value":
            return {"$result": content}
        case "list":
            return [written(each) for each in content]
        case "object":
            return {name: written(each) for name, each in content.items()}
    return content


def expected(value: Any, answers: dict[str, Answer]) -> Any:
    """Return a value with its answers."""
    sort, content = value
    match sort:
        case "text":
            return "".join(answers[text].text if is_name else text for text, is_name in content)
        case "value":
            return answers[content].value
        case "list":
            return [expected(each, answers) for each in content]
        case "object":
            return {name: expected(each, answers) for name, each in content.items()}
    return content


def names_in(value: Any) -> list[str]:
    """Return the names that a value refers to, in order."""
    sort, content = value
    match sort:
        case "text":
            return [text for text, is_name in content if is_name]
        case "value":
            return [content]
        case "list":
            return [name for each in content for name in names_in(each)]
        case "object":
            return [name for each in content.values() for name in names_in(each)]
    return []


@given(values, ANSWERS)
def test_a_request_is_filled_as_it_was_written(value: Any, answers: dict[str, Answer]) -> None:
    request = {"input": written(value)}

    assert [reference.name for reference in references_in(request)] == names_in(value)
    assert fill(request, answers) == {"input": expected(value, answers)}
