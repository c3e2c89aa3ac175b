"""Test the references of a request: every one is found, checked, and replaced by the answer that it names."""

from typing import Any

import pytest

from shared.model.bounds import FILLED_BYTES
from shared.model.errors import InvalidRequest, ParentsTooLarge
from shared.model.references import Answer, Reference, check_references, fill, holds_values, references_in

ANSWERS = {"a": Answer("one", [1]), "b-2_C": Answer("two", None)}
NAMES = {"a": "job_1", "b-2_C": "job_2"}


@pytest.mark.parametrize(
    ("request_", "filled"),
    [
        ({}, {}),
        ({"n": 1, "x": None, "y": True}, {"n": 1, "x": None, "y": True}),
        ({"x": "{{a}}"}, {"x": "one"}),
        ({"x": "{{ a }}, {{b-2_C}}{{a}}"}, {"x": "one, twoone"}),
        ({"x": "{{{a}}}"}, {"x": "{one}"}),
        ({"x": [{"y": ["{{a}}", 2]}]}, {"x": [{"y": ["one", 2]}]}),
        ({"x": {"$result": "a"}}, {"x": [1]}),
        ({"x": [{"$result": "b-2_C"}, {"y": {"$result": "a"}}]}, {"x": [None, {"y": [1]}]}),
        ({"x": "$result"}, {"x": "$result"}),
        ({"{{a}}": 1}, {"{{a}}": 1}),
    ],
)
def test_each_reference_is_replaced_and_all_else_stays(request_: dict[str, Any], filled: dict[str, Any]) -> None:
    check_references(request_, NAMES, has_values=True)
    assert fill(request_, ANSWERS) == filled


@pytest.mark.parametrize(
    "text", ["{a}", "{{a b}}", "{{}}", "{{a.b}}", "{{  a}}", "{{\na}}", "{{" + "x" * 65 + "}}", "a}}"]
)
def test_other_texts_with_braces_are_not_references(text: str) -> None:
    assert list(references_in({"x": text})) == []
    assert fill({"x": text}, {}) == {"x": text}


def test_an_answer_is_not_read_for_further_references() -> None:
    answers = {"a": Answer("{{b}}", {"$result": "b"}), "b": Answer("no", "no")}
    assert fill({"x": "{{a}}", "y": {"$result": "a"}}, answers) == {"x": "{{b}}", "y": {"$result": "b"}}


def test_an_answer_may_have_any_text() -> None:
    assert fill({"x": "{{a}}"}, {"a": Answer("\\1 \\g<0> é\x00")}) == {"x": "\\1 \\g<0> é\x00"}


def test_references_have_their_paths() -> None:
    request = {"messages": [{"content": "{{a}}"}], "input": {"x": {"$result": "b"}}}
    assert list(references_in(request)) == [
        Reference("a", "messages[0].content", is_value=False),
        Reference("b", "input.x", is_value=True),
    ]


def test_only_a_field_with_a_value_reference_holds_values() -> None:
    assert holds_values({"x": [{"$result": "a"}]}, "input")
    assert not holds_values({"x": ["{{a}}"]}, "input")


@pytest.mark.parametrize(
    ("request_", "param", "hint"),
    [
        ({"x": "{{c}}"}, "x", "refers to c, which is not in after; the names are: a, b-2_C"),
        ({"messages": [{"content": "{{a}} {{A}}"}]}, "messages[0].content", "refers to A"),
        ({"x": {"y": {"$result": "c"}}}, "x.y", "refers to c"),
        ({"x": {"$result": "a", "y": 1}}, "x", 'as in {"$result": "outline"}'),
        ({"x": [{"$result": 1}]}, "x[0]", "nothing but $result and a name"),
    ],
)
def test_a_wrong_reference_is_refused_with_its_field(request_: dict[str, Any], param: str, hint: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_references(request_, NAMES, has_values=True)
    assert refused.value.param == param
    assert hint in str(refused.value)


def test_a_value_is_refused_where_there_can_be_only_texts() -> None:
    with pytest.raises(InvalidRequest, match=r"for kinds that are functions; write \{\{a\}\} into a text") as refused:
        check_references({"x": {"$result": "a"}}, NAMES, has_values=False)
    assert refused.value.param == "x"


def test_one_large_answer_may_fill_the_request_once_and_not_twice() -> None:
    answers = {"a": Answer("x" * FILLED_BYTES)}
    assert len(fill({"x": "{{a}}"}, answers)["x"]) == FILLED_BYTES
    with pytest.raises(ParentsTooLarge, match=str(FILLED_BYTES)):
        fill({"x": "{{a}}", "y": [{"$result": "a"}]}, answers)
