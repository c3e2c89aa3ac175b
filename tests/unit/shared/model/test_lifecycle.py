"""Test the lifecycle's table."""

import itertools

import pytest

from shared.model.lifecycle import TERMINAL, TRANSITIONS, Action, IllegalTransition, State, advance

PAIRS = list(itertools.product(State, Action))


@pytest.mark.parametrize(("state", "action"), [pair for pair in PAIRS if pair in TRANSITIONS])
def test_an_action_leads_to_the_state_in_the_table(state: State, action: Action) -> None:
    assert advance(state, action) is TRANSITIONS[state, action]


@pytest.mark.parametrize(("state", "action"), [pair for pair in PAIRS if pair not in TRANSITIONS])
def test_an_action_outside_the_table_is_refused_in_a_sentence(state: State, action: Action) -> None:
    with pytest.raises(IllegalTransition, match=rf"^A job that is {state} can't [a-z ]+\.$"):
        advance(state, action)


def test_nothing_leads_out_of_a_terminal_state() -> None:
    assert {state for state, _ in TRANSITIONS} == set(State) - TERMINAL


def test_every_state_can_be_reached_and_every_action_leads_somewhere() -> None:
    assert {State.WAITING, State.QUEUED, *TRANSITIONS.values()} == set(State)
    assert {action for _, action in TRANSITIONS} == set(Action)


def test_a_job_that_is_being_cancelled_ends_as_cancelled_or_not_at_all() -> None:
    ways_out = {to for (state, _), to in TRANSITIONS.items() if state is State.CANCELLING}

    assert ways_out == {State.CANCELLING, State.CANCELLED}
