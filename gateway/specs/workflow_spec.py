"""Read the body of `POST /v1/workflows`: named steps, each the body of a job that may come after others.

Pure. Not here: the body of a job (spec_maker.py), and the graph's rules (shared/model/workflows.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from gateway.model.auth import Caller
from gateway.specs.job_parents import AFTER, check_parent_name
from gateway.specs.spec_maker import SpecMaker
from shared.model.bounds import WORKFLOW_STEPS
from shared.model.errors import InvalidRequest, RequestError
from shared.model.jobs import JobSpec
from shared.model.parents import Parents
from shared.model.references import names_mentioned
from shared.model.workflows import cycle_in, order_of

_STEPS: Final = "steps"


@dataclass(frozen=True, slots=True)
class WorkflowSpec:
    """The specs of a workflow's jobs by the names of their steps; parents come first."""

    steps: Mapping[str, JobSpec]
    idempotency_key: str | None = None
    fingerprint: str = ""

    @property
    def jobs(self) -> dict[str, str]:
        """Return the jobs' ids by the names of their steps."""
        return {name: spec.id for name, spec in self.steps.items()}


def read_workflow(
    body: Mapping[str, Any], specs: SpecMaker, caller: Caller, gate: str, job_ids: Sequence[str]
) -> WorkflowSpec:
    """Make the specs of a workflow. `gate` is its id, for which the first steps wait; `job_ids` suffice for all steps.

    Raises:
        InvalidRequest, Forbidden, ModelNotFound: names the step and the field, and its valid values.
    """
    bodies = _read_steps(body)
    parents = {name: _read_after(name, step, bodies) for name, step in bodies.items()}
    graph = {name: [each for each in after.values() if each in bodies] for name, after in parents.items()}
    if cycle := cycle_in(graph):
        raise InvalidRequest(
            f"The steps wait for each other in a circle: {' after '.join([*cycle, cycle[0]])}.",
            param=f"{_STEPS}.{cycle[0]}.{AFTER}",
        )
    ids = dict(zip(order_of(graph), job_ids, strict=False))
    made = {}
    for name, job_id in ids.items():
        if not parents[name]:
            _check_mentioned(name, bodies[name], bodies)
        after = {alias: ids.get(parent, parent) for alias, parent in parents[name].items()}
        spec = _spec(name, bodies[name], after, specs, caller, job_id)
        made[name] = spec if graph[name] else _behind(spec, gate)
    return WorkflowSpec(made)


def _read_steps(body: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    for name in body:
        if name != _STEPS:
            raise InvalidRequest(f"{name} is not a field of a workflow; use {_STEPS}.", param=name)
    steps = body.get(_STEPS)
    if not isinstance(steps, dict) or not 0 < len(steps) <= WORKFLOW_STEPS:
        raise InvalidRequest(
            f"{_STEPS} must be an object of 1 to {WORKFLOW_STEPS} names, each with the body of a job.", param=_STEPS
        )
    for name, step in steps.items():
        check_parent_name(name, _STEPS)
        if not isinstance(step, dict):
            raise InvalidRequest(f"{_STEPS}.{name} must be the body of a job.", param=f"{_STEPS}.{name}")
    return steps


def _read_after(name: str, step: Mapping[str, Any], steps: Mapping[str, Any]) -> dict[str, str]:
    """Return what a step comes after, by the names in its body: other steps, or ids of jobs."""
    after, param = step.get(AFTER), f"{_STEPS}.{name}.{AFTER}"
    if after is None:
        return {}
    if isinstance(after, list) and after and all(isinstance(each, str) for each in after):
        after = {each: each for each in after}
    elif not isinstance(after, dict) or not after or not all(isinstance(each, str) for each in after.values()):
        raise InvalidRequest(
            f"{param} must be a list of steps, or an object of names, each with a step or the id of a job.", param=param
        )
    for alias, parent in after.items():
        if parent not in steps and not parent.startswith("job_"):
            raise InvalidRequest(f"{param} names {parent[:64]}, which is not a step of the workflow.", param=param)
        check_parent_name(alias, param)
    return after


def _spec(
    name: str, step: Mapping[str, Any], after: Mapping[str, str], specs: SpecMaker, caller: Caller, job_id: str
) -> JobSpec:
    body = {**step, AFTER: dict(after)} if after else {field: step[field] for field in step if field != AFTER}
    try:
        return specs.native(body, caller, None, job_id)
    except RequestError as error:
        param = f"{_STEPS}.{name}" if error.param is None else f"{_STEPS}.{name}.{error.param}"
        raise type(error)(f"The step {name}: {error}", param=param) from None


def _check_mentioned(name: str, step: Mapping[str, Any], steps: Mapping[str, Any]) -> None:
    """Refuse a step that refers to another one without coming after any: its braces would be only text."""
    for mentioned in names_mentioned(step):
        if mentioned in steps:
            param = f"{_STEPS}.{name}"
            raise InvalidRequest(f"{param} refers to {mentioned}, which is not in its {AFTER}.", param=param)


def _behind(spec: JobSpec, gate: str) -> JobSpec:
    """Let a step that could start at once wait until the workflow is recorded."""
    return replace(spec, parents=spec.parents or Parents({}), gate=gate)
