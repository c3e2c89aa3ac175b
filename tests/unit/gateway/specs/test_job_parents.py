"""Read the parents of a job: their names and ids, or a refusal that names the field."""

from typing import Any

import pytest

from shared.model.errors import InvalidRequest
from shared.model.jobs import LONGEST_TIMEOUT_S
from shared.model.parents import MAX_PARENTS, OnParentFailure, Parents
from tests.unit.gateway.specs.specs import BODY, NEW, native, specs, with_
from tests.unit.gateway.specs.test_requeued_jobs import dead_letter


def test_a_job_without_the_field_has_no_parents() -> None:
    assert native(BODY).parents is native(with_(after=None, on_parent_failure=None)).parents is None


def test_a_job_fails_with_its_parents_unless_it_says_otherwise() -> None:
    assert native(with_(after={"a": "job_1"})).parents == Parents({"a": "job_1"}, OnParentFailure.FAIL)
    runs = native(with_(after={"a": "job_1"}, on_parent_failure="run")).parents
    assert runs == Parents({"a": "job_1"}, OnParentFailure.RUN)


def test_a_job_with_parents_may_live_for_a_week_and_runs_for_its_time_out() -> None:
    spec = native(with_(after={"a": "job_1"}, timeout_s=5))
    assert (spec.lifetime_s, spec.timeout_s) == (LONGEST_TIMEOUT_S, 5)
    assert native(with_(timeout_s=5)).lifetime_s == 5


def test_the_provider_does_not_get_the_parents() -> None:
    assert b"parent" not in native(with_(after={"a": "job_parent"}, on_parent_failure="run")).request


def test_a_requeued_dead_letter_comes_after_the_same_jobs() -> None:
    letter = dead_letter(after='{"a":"job_1"}', on_parent_failure="run", released="2000")
    spec = specs().again(letter, BODY, {}, NEW)
    assert spec.parents == Parents({"a": "job_1"}, OnParentFailure.RUN)
    assert spec.timeout_s == 19.5


@pytest.mark.parametrize(
    ("fields", "param", "hint"),
    [
        ({"after": "job_1"}, "after", "must be an object of 1 to 256 names"),
        ({"after": ["job_1"]}, "after", 'as in {"outline": "job_…"}'),
        ({"after": {}}, "after", "must be an object"),
        ({"after": {f"n{n}": "job_1" for n in range(MAX_PARENTS + 1)}}, "after", "1 to 256"),
        ({"after": {"a b": "job_1"}}, "after", "has the name 'a b'; a name has 1 to 64 letters, digits, - and _"),
        ({"after": {"": "job_1"}}, "after", "1 to 64 letters"),
        ({"after": {"a": 1}}, "after.a", "must be the id of a job"),
        ({"after": {"a": None}}, "after.a", "must be the id of a job"),
        ({"after": {"a": "job_1"}, "on_parent_failure": "wait"}, "on_parent_failure", "one of: fail, run"),
        ({"after": {"a": "job_1"}, "on_parent_failure": ["run"]}, "on_parent_failure", "one of: fail, run"),
        ({"on_parent_failure": "run"}, "on_parent_failure", "needs after"),
        ({"aftr": {"a": "job_1"}}, "aftr", "use after"),
        ({"onParentFailure": "run"}, "onParentFailure", "use on_parent_failure"),
    ],
)
def test_a_wrong_field_is_refused_with_its_name_and_its_right_form(
    fields: dict[str, Any], param: str, hint: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        native(with_(**fields))
    assert refused.value.param == param
    assert hint in str(refused.value)
