"""Test the arguments of the step that creates a job: an absent option is an empty text, a viewer brings its keys."""

from dataclasses import replace

from shared.model.jobs import LONGEST_TIMEOUT_S, VIEWER_LEASE_S
from shared.model.parents import OnParentFailure, Parents
from shared.model.tenant_bounds import UNBOUNDED
from shared.store.keys import Keys
from shared.store.wire.job_creation import Step, create_step
from tests.support.core import make_spec

KEYS = Keys()


def step(**changes: object) -> Step:
    return create_step(KEYS, make_spec(id="job_1", **changes), 7, again=False, bounds=UNBOUNDED)


def test_a_job_without_a_viewer_has_four_keys() -> None:
    keys = KEYS.job("job_1")
    assert step().keys == [keys.record, keys.request, keys.log, keys.channel]


def test_a_viewer_comes_last_with_its_keys_and_its_lease() -> None:
    keys, watched = KEYS.job("job_1"), step(viewer="g.1")
    assert watched.keys[4:] == [keys.viewers, keys.readers]
    assert watched.args == [*step().args, "g.1", int(VIEWER_LEASE_S * 1000)]


def test_the_shortest_retention_is_one_millisecond_and_none_is_an_empty_text() -> None:
    assert step(keep_s=0.0).args[16] == 1
    assert step().args[16] == ""


def test_an_idempotency_key_is_stored_behind_the_fingerprint() -> None:
    assert step(idempotency_key="a key").args[17] == "f1 a key"
    assert step().args[17] == ""


def test_the_request_that_submits_a_job_is_named_before_its_viewer() -> None:
    made = create_step(KEYS, make_spec(id="job_1"), 7, again=False, bounds=UNBOUNDED, request_id="req_1")
    assert made.args[23] == "req_1"
    assert step(viewer="g.1").args[23:26] == ["", b"", "g.1"]


def test_a_job_that_may_have_been_lost_is_marked() -> None:
    spec = replace(make_spec(), id="job_1")
    assert create_step(KEYS, spec, 7, again=True, bounds=UNBOUNDED).args[18] == "1"
    assert step().args[18] == ""


def test_a_job_with_parents_is_created_by_a_function_of_its_own_and_may_live_for_a_week() -> None:
    parents = Parents({"a": "job_2", "b": "job_3"}, OnParentFailure.RUN)
    waiting, plain = step(parents=parents, viewer="g.1"), step(viewer="g.1")

    assert (waiting.function, plain.function) == ("create_waiting", "create")
    assert waiting.args[:4] == [b'{"a":"job_2","b":"job_3"}', "run", "job_2 job_3", 30_000]
    week = [*plain.args[:7], int(LONGEST_TIMEOUT_S * 1000), *plain.args[8:]]
    assert (waiting.keys, waiting.args[4:]) == (plain.keys, week)
