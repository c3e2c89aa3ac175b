"""Test how the input of a kind that is a function is read: by its model, with the name of the field that is refused."""

import pickle
from typing import Any

import pytest
from pydantic import BaseModel, model_validator

from gateway.specs.own_kinds import admission_of
from shared.model.errors import InvalidRequest
from shared.model.own_kinds import JobContext, kind


class Point(BaseModel):
    """A part of the input."""

    x: float


class Path(BaseModel):
    """The input of the tests' kind."""

    points: list[Point]
    closed: bool = False

    @model_validator(mode="after")
    def _long_enough(self) -> "Path":
        if self.closed and len(self.points) < 3:
            raise ValueError("a closed path has three points")
        return self


@kind("length")
async def length(job: JobContext, data: Path) -> float:
    return 0.0


ADMISSION = admission_of(length)
GOOD = {"points": [{"x": 1}, {"x": 2}]}


def test_an_input_is_stored_as_it_was_sent() -> None:
    assert ADMISSION.read_input({}, {"input": GOOD}) == {"input": GOOD}
    assert ADMISSION.read(GOOD) == {"input": GOOD}


def test_another_process_can_read_it() -> None:
    assert pickle.loads(pickle.dumps(ADMISSION.read_input))({}, {"input": GOOD}) == {"input": GOOD}


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, "points"),
        ({"points": [{"x": 1}, {"x": "far"}]}, "points[1].x"),
        ({"points": [1]}, "points[0]"),
    ],
)
def test_an_input_that_its_model_refuses_names_the_field(given: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as of_a_job:
        ADMISSION.read_input({}, {"input": given})
    with pytest.raises(InvalidRequest) as of_a_task:
        ADMISSION.read(given)

    assert (of_a_job.value.param, of_a_task.value.param) == (f"input.{field}", field)
    assert str(of_a_task.value).startswith(f"{field} is refused: ")


def test_an_input_that_is_refused_as_a_whole_names_the_whole() -> None:
    given = {**GOOD, "closed": True}
    with pytest.raises(InvalidRequest, match=r"^input is refused: .*three points\.$") as of_a_job:
        ADMISSION.read_input({}, {"input": given})
    with pytest.raises(InvalidRequest, match=r"^The body is refused: .*three points\.$") as of_a_task:
        ADMISSION.read(given)

    assert (of_a_job.value.param, of_a_task.value.param) == ("input", None)


@pytest.mark.parametrize("request_", [{}, {"input": None}, {"input": [1]}])
def test_a_job_needs_an_object_as_its_input(request_: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match=r"^input must be an object: the input of the kind length\.$"):
        ADMISSION.read_input({}, request_)


def test_a_job_has_no_other_field() -> None:
    with pytest.raises(InvalidRequest, match=r"^model is not a field of a job of kind length; use input\.$") as refused:
        ADMISSION.read_input({}, {"model": "m", "input": GOOD})

    assert refused.value.param == "model"


def test_an_input_that_takes_a_value_from_another_job_is_checked_by_the_worker() -> None:
    unknown = {"points": {"$result": "a"}}

    assert ADMISSION.read_input({"after": {"a": "job_1"}}, {"input": unknown}) == {"input": unknown}
    for body, given in (({}, unknown), ({"after": {"a": "job_1"}}, {"points": "{{a}}"})):
        with pytest.raises(InvalidRequest, match=r"input\.points is refused"):
            ADMISSION.read_input(body, {"input": given})
