"""The further fields of calls: from the log of the job that made them, or from the items that come back."""

from typing import Any

import pytest

from gateway.dialects.call_extras import LoggedExtras, calling_jobs, with_extras
from shared.events import EventId, EventType, encode_data, encode_frame
from shared.jobs import new_job_id
from tests.unit.gateway.dialects.test_response_items import call, output, said, thought
from tests.unit.gateway.dialects.test_responses_request import user

JOBS = [new_job_id(1_700_000_000_000 + number, number) for number in range(40)]
SIGNED = {"extra_content": {"google": {"thought_signature": "s"}}}


def bare(number: int) -> str:
    return JOBS[number].removeprefix("job_")


def made(call_id: str, job: int, **fields: Any) -> dict[str, Any]:
    """A call as job number `job` has shown it."""
    return call(call_id, id=f"fc_{bare(job)}_1", **fields)


class Log:
    """Frames of one job."""

    def __init__(self) -> None:
        self._seq = 0
        self._extras = LoggedExtras()

    def delta(self, **data: Any) -> "Log":
        """Log a delta."""
        return self.event(EventType.DELTA, **data)

    def fragment(self, **fragment: Any) -> "Log":
        """Log a fragment of a call."""
        return self.delta(tool_calls=[fragment])

    def event(self, kind: EventType, **data: Any) -> "Log":
        """Log any event."""
        self._seq += 1
        self._extras.accept(encode_frame(kind, encode_data(data), EventId(1, self._seq)))
        return self

    def by_call(self) -> dict[str, Any]:
        """Return what was found."""
        return self._extras.by_call()


class TestTheLog:
    def test_further_fields_of_all_fragments_belong_to_the_call(self) -> None:
        log = Log().delta(content="Hm.").fragment(index=0, id="a", type="function", function={"name": "f"}, **SIGNED)
        log.fragment(index=0, function={"arguments": "{}"}, more=1).fragment(index=1, id="b", function={"name": "g"})
        log.fragment(index=1, custom={"input": "x"}, signature="t")

        assert log.by_call() == {"a": {**SIGNED, "more": 1}, "b": {"signature": "t"}}

    def test_a_call_without_further_fields_is_left_out(self) -> None:
        assert Log().fragment(index=0, id="a", type="function", function={"name": "f"}).by_call() == {}

    def test_further_fields_of_the_inner_object_are_kept_under_its_name(self) -> None:
        log = Log().fragment(index=0, id="a", type="function", function={"name": "f", "thought": "t"}, signature="s")
        log.fragment(index=1, id="b", type="custom", custom={"name": "g", "input": "", "thought": "t"})

        assert log.by_call() == {
            "a": {"signature": "s", "function": {"thought": "t"}},
            "b": {"custom": {"thought": "t"}},
        }

    def test_calls_that_were_taken_back_are_forgotten(self) -> None:
        log = Log().fragment(index=0, id="a", **SIGNED).fragment(index=0, id="b", **SIGNED)

        log.event(EventType.ROLLBACK, to="1-1").fragment(index=1, id="c", **SIGNED)

        assert log.by_call() == {"a": SIGNED, "c": SIGNED}

    def test_only_the_first_answer_counts(self) -> None:
        assert Log().delta(index=1, tool_calls=[{"index": 0, "id": "a", **SIGNED}]).by_call() == {}

    @pytest.mark.parametrize("calls", ["none", ["none"], [{"index": {}, "id": "a", "x": 1}], [{"index": 0, "x": 1}]])
    def test_fragments_that_are_none_are_passed_over(self, calls: Any) -> None:
        assert Log().delta(tool_calls=calls).by_call() == {}


class TestTheJobs:
    def test_a_call_names_the_job_that_has_made_it(self) -> None:
        items = [
            user("Hello?"),
            made("a", 0),
            output("a"),
            made("b", 1),
            made("c", 1),
            said("x", id=f"msg_{bare(2)}_0"),
        ]

        assert calling_jobs(items, 32) == [JOBS[1], JOBS[0]]

    def test_the_latest_jobs_count(self) -> None:
        items = [made(str(number), number) for number in range(40)]

        assert calling_jobs(items, 32) == JOBS[:7:-1]

    @pytest.mark.parametrize(
        "before",
        [
            thought("Hm.", id=f"rs_{bare(0)}_0"),
            said("I look.", id=f"msg_{bare(0)}_0"),
            {"type": "item_reference", "id": f"rs_{bare(0)}_0"},
        ],
        ids=lambda item: str(item["type"]),
    )
    def test_a_call_without_an_id_is_of_the_same_job_as_the_item_before_it(self, before: dict[str, Any]) -> None:
        assert calling_jobs([before, call("a"), call("b")], 32) == [JOBS[0]]
        assert calling_jobs([before, user("So?"), call("a")], 32) == []
        assert calling_jobs([before, made("a", 1), output("a"), call("b")], 32) == [JOBS[1]]

    @pytest.mark.parametrize("item_id", ["fc_1", None, 7, f"fc_{bare(0)}", f"fc_{bare(0)}_in_1"])
    def test_an_id_of_another_server_names_none(self, item_id: Any) -> None:
        assert calling_jobs([call("a", id=item_id)], 32) == []


class TestTheItems:
    def test_a_call_that_comes_back_without_its_fields_gets_them_from_the_log(self) -> None:
        items = [user("Hello?"), made("a", 0), output("a")]

        assert with_extras(items, {JOBS[0]: {"a": SIGNED}}) == [items[0], made("a", 0, **SIGNED), items[2]]
        assert items[1] == made("a", 0)

    def test_the_log_is_right_about_what_an_item_says(self) -> None:
        assert with_extras([made("a", 0, signature="forged")], {JOBS[0]: {"a": SIGNED}}) == [made("a", 0, **SIGNED)]

    def test_known_fields_that_an_item_carries_go_back_if_no_log_has_them(self) -> None:
        items = [call("a", **SIGNED), made("b", 0, signature="s", thought_signature=None)]

        assert with_extras(items, {JOBS[0]: {}}) == [call("a", **SIGNED), made("b", 0, signature="s")]

    def test_fields_that_the_dialect_defines_are_those_of_the_item(self) -> None:
        logged = {JOBS[0]: {"a": {**SIGNED, "name": "g", "arguments": "x", "status": "done", "call_id": "b"}}}

        assert with_extras([made("a", 0)], logged) == [made("a", 0, **SIGNED)]

    def test_a_clients_own_fields_stay_here(self) -> None:
        items = [call("a", internal_id="x"), {**call("b", internal_id="x"), "type": "custom_tool_call"}]

        assert with_extras(items, {}) == [call("a"), {**call("b"), "type": "custom_tool_call"}]

    def test_a_call_of_the_same_id_in_another_job_gets_nothing(self) -> None:
        items = [made("0", 0), output("0"), made("0", 1), {**call("0"), "call_id": ["0"]}]

        assert with_extras(items, {JOBS[0]: {"0": SIGNED}}) == [made("0", 0, **SIGNED), *items[1:]]

    def test_messages_and_references_stay_as_they_are(self) -> None:
        items = [user("Hello?"), {"type": "item_reference", "id": f"fc_{bare(0)}_1", "odd": 1}, thought("Hm.")]

        assert with_extras(items, {}) == items
