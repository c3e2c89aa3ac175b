"""Read the body of a workflow: specs in an order that can be recorded, or a refusal that names step and field."""

from typing import Any

import pytest

from gateway.specs.workflow_spec import WorkflowSpec, read_workflow
from shared.model.bounds import WORKFLOW_STEPS
from shared.model.errors import Forbidden, InvalidRequest, RequestError
from shared.model.jobs import new_job_id
from shared.model.parents import OnParentFailure, Parents
from tests.unit.gateway.specs.specs import ALICE, BODY, specs

GATE = "wf_" + "0" * 26
IDS = [new_job_id(1, number) for number in range(WORKFLOW_STEPS)]
EXTERNAL = new_job_id(2, 2)


def read(**steps: Any) -> WorkflowSpec:
    return read_workflow({"steps": steps}, specs(), ALICE, GATE, IDS)


def step(text: str = "Hi", **fields: Any) -> dict[str, Any]:
    return {**BODY, "messages": [{"role": "user", "content": text}], **fields}


def refusal(body: dict[str, Any]) -> RequestError:
    with pytest.raises(RequestError) as refused:
        read_workflow(body, specs(), ALICE, GATE, IDS)
    return refused.value


def test_parents_come_first_and_children_name_their_ids() -> None:
    made = read(text=step("{{outline}}", after=["outline"], on_parent_failure="run"), outline=step())

    assert made.jobs == {"outline": IDS[0], "text": IDS[1]}
    text = made.steps["text"]
    assert (text.parents, text.gate) == (Parents({"outline": IDS[0]}, OnParentFailure.RUN), "")
    assert text.idempotency_key is None


def test_first_steps_wait_for_the_gate() -> None:
    made = read(a=step(), b=step(after={"old": EXTERNAL}), c=step(after={"x": "a", "old": EXTERNAL}))

    assert {name: spec.gate for name, spec in made.steps.items()} == {"a": GATE, "b": GATE, "c": ""}
    assert made.steps["a"].parents == Parents({})
    assert made.steps["b"].parents == Parents({"old": EXTERNAL})
    assert made.steps["c"].parents == Parents({"x": IDS[0], "old": EXTERNAL})


def test_a_step_without_parents_may_write_braces_that_name_no_step() -> None:
    assert b"{{user}}" in read(a=step("{{user}}", after=None)).steps["a"].request


@pytest.mark.parametrize(
    ("steps", "param", "hint"),
    [
        (None, "steps", "1 to 256 names"),
        ([], "steps", "must be an object"),
        ({}, "steps", "1 to 256 names"),
        ({f"s{n}": BODY for n in range(WORKFLOW_STEPS + 1)}, "steps", "1 to 256"),
        ({"a b": BODY}, "steps", "has the name 'a b'"),
        ({"a": "b"}, "steps.a", "must be the body of a job"),
        ({"a": step(after="b"), "b": step()}, "steps.a.after", "must be a list of steps, or an object"),
        ({"a": step(after=[]), "b": step()}, "steps.a.after", "must be a list of steps"),
        ({"a": step(after=[1])}, "steps.a.after", "must be a list of steps"),
        ({"a": step(after={"x": 1})}, "steps.a.after", "must be a list of steps"),
        ({"a": step(after={})}, "steps.a.after", "must be a list of steps"),
        ({"a": step(after=["c"])}, "steps.a.after", "names c, which is not a step"),
        ({"a": step(after={"x y": "b"}), "b": step()}, "steps.a.after", "has the name 'x y'"),
        ({"a": step(after=["a"])}, "steps.a.after", "in a circle: a after a"),
        ({"a": step(after=["b"]), "b": step(after=["a"])}, "steps.a.after", "a after b after a"),
        ({"a": {"model": "m"}}, "steps.a.messages", "The step a: messages must be"),
        ({"a": step(kind="x")}, "steps.a.kind", "The step a: kind must be one of"),
        ({"a": step("{{c}}", after=["b"]), "b": step()}, "steps.a.messages[0].content", "refers to c"),
        ({"a": step("{{b}}"), "b": step()}, "steps.a", "refers to b, which is not in its after"),
        ({"a": {**step(), "x": [{"$result": "b"}]}, "b": step()}, "steps.a", "refers to b"),
        ({"a": step(on_parent_failure="run")}, "steps.a.on_parent_failure", "needs after"),
    ],
)
def test_a_wrong_workflow_is_refused_with_step_and_field(steps: Any, param: str, hint: str) -> None:
    error = refusal({"steps": steps})
    assert (type(error), error.param) == (InvalidRequest, param)
    assert hint in str(error)


def test_a_field_beside_the_steps_is_refused() -> None:
    error = refusal({"steps": {"a": BODY}, "metadata": {}})
    assert (error.param, "use steps" in str(error)) == ("metadata", True)


def test_a_refusal_of_a_step_stays_of_its_sort() -> None:
    caller = type(ALICE)("alice", lanes=("low",))
    with pytest.raises(Forbidden, match="The step a: This key may not use the lane high") as refused:
        read_workflow({"steps": {"a": {**BODY, "lane": "high"}}}, specs(), caller, GATE, IDS)
    assert refused.value.param == "steps.a.lane"
