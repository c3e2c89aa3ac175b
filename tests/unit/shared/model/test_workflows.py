"""Test workflows: their ids, the status that follows from their steps, and the order of their graphs."""

import pytest

from shared.model.jobs import new_job_id
from shared.model.lifecycle import State
from shared.model.workflows import WorkflowStatus, cycle_in, is_workflow_id, order_of, status_of, workflow_id

JOB = new_job_id(1_700_000_000_000, 7)
RUNNING, COMPLETED = WorkflowStatus.RUNNING, WorkflowStatus.COMPLETED


def test_the_id_of_a_workflow_is_not_one_of_a_job() -> None:
    made = workflow_id(JOB)
    assert made == f"wf_{JOB.removeprefix('job_')}"
    assert is_workflow_id(made)
    assert not any(map(is_workflow_id, (JOB, "wf_", "wf_1", made + "0", "")))


@pytest.mark.parametrize(
    ("steps", "status"),
    [
        ([State.WAITING, State.COMPLETED], RUNNING),
        ([State.FAILED, State.CANCELLING], RUNNING),
        ([State.COMPLETED, State.COMPLETED], COMPLETED),
        ([State.COMPLETED, None], COMPLETED),
        ([], COMPLETED),
        ([State.CANCELLED, State.FAILED], WorkflowStatus.FAILED),
        ([State.CANCELLED, State.EXPIRED], WorkflowStatus.FAILED),
        ([State.CANCELLED, State.COMPLETED], WorkflowStatus.CANCELLED),
    ],
)
def test_the_status_of_a_workflow_follows_from_its_steps(steps: list[State | None], status: WorkflowStatus) -> None:
    assert status_of(steps) is status


def test_steps_are_ordered_behind_those_that_they_come_after() -> None:
    assert order_of({"c": ["a", "b"], "b": ["a"], "a": [], "d": []}) == ["a", "d", "b", "c"]
    assert order_of({"a": [], "b": ["a", "a"]}) == ["a", "b"]


@pytest.mark.parametrize(
    ("graph", "cycle"),
    [
        ({"a": ["a"]}, ["a"]),
        ({"a": ["b"], "b": ["a"]}, ["a", "b"]),
        ({"d": ["b"], "a": ["c"], "b": ["a"], "c": ["b"], "e": []}, ["b", "a", "c"]),
        ({"a": [], "b": ["a"]}, []),
        ({}, []),
    ],
)
def test_a_cycle_is_named_by_its_steps(graph: dict[str, list[str]], cycle: list[str]) -> None:
    assert cycle_in(graph) == cycle
