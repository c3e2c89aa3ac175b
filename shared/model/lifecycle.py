"""The lifecycle of a job: its states, and one table of the allowed actions.

`shared/store/functions` enforces the same table inside Redis; a contract test drives both through every pair of state
and action and compares.
Pure: no I/O, no clock.
"""

from enum import StrEnum

from shared.model.errors import TailraceError


class State(StrEnum):
    """The value of `status` in a job's record."""

    WAITING = "waiting"
    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Action(StrEnum):
    """The actions that change a job's state."""

    RELEASE = "release"
    BEGIN = "begin"
    CANCEL = "cancel"
    COMPLETE = "complete"
    FAIL = "fail"
    FINISH_CANCELLED = "finish_cancelled"
    EXPIRE = "expire"


class IllegalTransition(TailraceError):
    """The lifecycle does not allow this action in this state."""


TERMINAL: frozenset[State] = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED, State.EXPIRED})

# A job that comes after others is `waiting` until these have ended, and no worker can begin it.
# A worker that is lost or drains leaves its job `running`: the next `begin` takes it over under a new epoch.
# Once `cancelling`, only `cancelled` may end the job: a client that has read "stopping" never reads "completed".
TRANSITIONS: dict[tuple[State, Action], State] = {
    (State.WAITING, Action.RELEASE): State.QUEUED,
    (State.WAITING, Action.CANCEL): State.CANCELLED,
    (State.WAITING, Action.FAIL): State.FAILED,
    (State.WAITING, Action.EXPIRE): State.EXPIRED,
    (State.QUEUED, Action.BEGIN): State.RUNNING,
    (State.QUEUED, Action.CANCEL): State.CANCELLED,
    (State.QUEUED, Action.FAIL): State.FAILED,
    (State.QUEUED, Action.EXPIRE): State.EXPIRED,
    (State.RUNNING, Action.BEGIN): State.RUNNING,
    (State.RUNNING, Action.CANCEL): State.CANCELLING,
    (State.RUNNING, Action.COMPLETE): State.COMPLETED,
    (State.RUNNING, Action.FAIL): State.FAILED,
    (State.RUNNING, Action.EXPIRE): State.EXPIRED,
    (State.CANCELLING, Action.CANCEL): State.CANCELLING,
    (State.CANCELLING, Action.FINISH_CANCELLED): State.CANCELLED,
}


def advance(state: State, action: Action) -> State:
    """Return the state after `action`.

    Raises:
        IllegalTransition: the table has no such row; every action on a terminal state is one.
    """
    try:
        return TRANSITIONS[state, action]
    except KeyError:
        raise IllegalTransition(f"A job that is {state.value} can't {action.value.replace('_', ' ')}.") from None
