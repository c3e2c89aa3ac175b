"""Test the lane of a job: the caller's choice, and what its key may use."""

import pytest

from gateway.model.auth import Caller
from shared.model.errors import Forbidden, InvalidRequest
from tests.unit.gateway.specs.specs import BODY, LANES, chat, native, with_


@pytest.mark.parametrize("lane", LANES)
def test_without_a_plan_a_key_may_use_every_lane(lane: str) -> None:
    assert native(with_(lane=lane)).lane == lane
    assert chat(BODY, lane=lane).lane == lane


@pytest.mark.parametrize(
    ("plan", "lane"),
    [((), "default"), (("low", "default"), "default"), (("low",), "low"), (("low", "high"), "low")],
)
def test_a_request_without_a_lane_gets_the_default_or_the_first_of_its_callers_plan(
    plan: tuple[str, ...], lane: str
) -> None:
    caller = Caller("alice", lanes=plan)
    assert native(BODY, caller=caller).lane == lane
    assert chat(BODY, caller=caller).lane == lane


def test_a_lane_that_the_plan_does_not_have_is_forbidden_and_those_that_it_has_are_named() -> None:
    caller = Caller("alice", lanes=("default", "low"))
    with pytest.raises(Forbidden, match=r"may not use the lane high; lane must be one of: default, low\.") as caught:
        native(with_(lane="high"), caller=caller)
    assert (caught.value.param, caught.value.status) == ("lane", 403)
    with pytest.raises(Forbidden, match="X-Tailrace-Lane must be one of: default, low") as caught:
        chat(BODY, caller=caller, lane="high")
    assert caught.value.param == "X-Tailrace-Lane"


@pytest.mark.parametrize("lane", ["", "express", "default,low"])
def test_an_unknown_lane_is_a_wrong_header(lane: str) -> None:
    with pytest.raises(InvalidRequest, match="X-Tailrace-Lane must be one of: high, default, low") as caught:
        chat(BODY, lane=lane)
    assert caught.value.param == "X-Tailrace-Lane"
