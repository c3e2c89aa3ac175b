"""A workflow: jobs that come after each other, submitted in one call as named steps.

Pure. Not here: reading one from a request (gateway/specs/workflow_spec.py), storing it (shared/store/workflows.py).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from shared.model.jobs import is_job_id
from shared.model.lifecycle import TERMINAL, State
from shared.model.parents import GATE_PREFIX

_JOB_PREFIX: Final = "job_"


def workflow_id(job_id: str) -> str:
    """Make the id of a workflow from a job's id that no job has."""
    return GATE_PREFIX + job_id.removeprefix(_JOB_PREFIX)


def is_workflow_id(text: str) -> bool:
    """Return whether the text has the form of a workflow's id; the workflow may not exist."""
    return text.startswith(GATE_PREFIX) and is_job_id(_JOB_PREFIX + text.removeprefix(GATE_PREFIX))


@dataclass(frozen=True, slots=True)
class NewWorkflow:
    """A workflow to be stored. Without an Idempotency-Key it has no fingerprint of its body."""

    id: str
    tenant: str
    idempotency_key: str | None = None
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Workflow:
    """A stored workflow: the jobs of its steps, by their names, in an order in which parents come first."""

    id: str
    tenant: str
    created_ms: int
    steps: Mapping[str, str]


class WorkflowStatus(StrEnum):
    """The status of a workflow, which follows from those of its steps."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


def status_of(steps: Iterable[State | None]) -> WorkflowStatus:
    """Return the status of a workflow; None is a step whose job is not stored any more.

    It is running until each step has ended. Then a step that failed or expired counts before one that was cancelled.
    """
    states = [state for state in steps if state is not None]
    if any(state not in TERMINAL for state in states):
        return WorkflowStatus.RUNNING
    if State.FAILED in states or State.EXPIRED in states:
        return WorkflowStatus.FAILED
    return WorkflowStatus.CANCELLED if State.CANCELLED in states else WorkflowStatus.COMPLETED


def order_of(graph: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the steps of a graph so that each comes after those that it names; otherwise in the graph's order.

    All names are steps. Of a graph with a cycle, the steps that can't start are missing.
    """
    open_parents = {name: set(parents) for name, parents in graph.items()}
    children: dict[str, list[str]] = {name: [] for name in graph}
    for name, parents in open_parents.items():
        for parent in parents:
            children[parent].append(name)
    order = [name for name, parents in open_parents.items() if not parents]
    for name in order:  # it grows while it is read
        for child in children[name]:
            open_parents[child].discard(name)
            if not open_parents[child]:
                order.append(child)
    return order


def cycle_in(graph: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the steps of one cycle of a graph, each followed by a step that it names; empty without one."""
    ordered = set(order_of(graph))
    step = next((name for name in graph if name not in ordered), None)
    path: list[str] = []
    while step is not None and step not in path:
        path.append(step)
        # A step that can't start names another one that can't.
        step = next(parent for parent in graph[step] if parent not in ordered)
    return path[path.index(step) :] if step is not None else []
