"""Test the lifecycle under any sequence of actions."""

from hypothesis import given
from hypothesis import strategies as st

from shared.model.lifecycle import TERMINAL, Action, IllegalTransition, State, advance

actions = st.lists(st.sampled_from(Action), max_size=30)
first_states = st.sampled_from([State.WAITING, State.QUEUED])


def states_after(first: State, chosen: list[Action]) -> list[State]:
    """Return the states that a job passes through; refused actions change nothing."""
    states = [first]
    for action in chosen:
        try:
            states.append(advance(states[-1], action))
        except IllegalTransition:
            continue
    return states


@given(first_states, actions)
def test_a_job_ends_at_most_once_and_nothing_follows(first: State, chosen: list[Action]) -> None:
    states = states_after(first, chosen)

    assert not TERMINAL & set(states[:-1])


@given(first_states, actions)
def test_a_cancelling_job_only_ever_becomes_cancelled(first: State, chosen: list[Action]) -> None:
    states = states_after(first, chosen)

    if State.CANCELLING in states:
        after = states[states.index(State.CANCELLING) :]
        assert set(after) <= {State.CANCELLING, State.CANCELLED}


@given(first_states, actions)
def test_a_job_completes_only_if_it_ran(first: State, chosen: list[Action]) -> None:
    states = states_after(first, chosen)

    if states[-1] is State.COMPLETED:
        assert states[-2] is State.RUNNING


@given(first_states, actions)
def test_every_job_can_still_be_brought_to_an_end(first: State, chosen: list[Action]) -> None:
    state = states_after(first, chosen)[-1]

    while state not in TERMINAL:
        state = advance(state, Action.FINISH_CANCELLED if state is State.CANCELLING else Action.CANCEL)


@given(first_states, actions)
def test_a_job_never_waits_for_others_again(first: State, chosen: list[Action]) -> None:
    states = states_after(first, chosen)

    assert State.WAITING not in states[states.count(State.WAITING) :]
    assert State.RUNNING not in states[: states.count(State.WAITING) + 1]
