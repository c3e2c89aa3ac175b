"""Test the preparation of responses: step by step, each with all that was found for the steps before it."""

import json
from typing import Any

import pytest

from gateway.dialects.responses.answer_state import prompt_fingerprint
from gateway.dialects.responses.logged_answer import LoggedAnswer
from gateway.preparation.response import (
    Earlier,
    Need,
    NeedsJobs,
    NeedsOutputs,
    NeedsPrevious,
    NeedsStates,
    PreparedResponse,
    prepare_response,
)
from gateway.preparation.stored_answer import encoded_output, options_of
from shared.model.bounds import REFERENCED_JOBS
from shared.model.errors import InvalidRequest
from shared.model.jobs import KEPT, OnDisconnect, new_job_id
from tests.support.heads import JOB, head
from tests.support.logged import completed_log, ended_job

MOST = 10_000
FORMER = new_job_id(1_700_000_000_000, 42)
OTHER = new_job_id(1_700_000_000_000, 43)
TOOLS = [{"type": "function", "name": "f", "parameters": {}}]
USER = {"role": "user", "content": "Hello?"}


def step(*found: object, most: int = MOST, **fields: Any) -> Need | PreparedResponse:
    raw = json.dumps({"model": "m", "input": "And?", **fields}).encode()
    return prepare_response(raw, head(), most, found)


def prepared(*found: object, most: int = MOST, **fields: Any) -> PreparedResponse:
    done = step(*found, most=most, **fields)
    assert isinstance(done, PreparedResponse), done
    return done


def messages(response: PreparedResponse) -> list[Any]:
    found: list[Any] = json.loads(response.spec.request)["messages"]
    return found


def item(job_id: str) -> str:
    return f"msg_{job_id.removeprefix('job_')}_0"


def called(job_id: str | None = None, call_id: str = "a") -> list[dict[str, Any]]:
    """Return a call and its result; its item names this job."""
    name = {} if job_id is None else {"id": f"fc_{job_id.removeprefix('job_')}_0"}
    call = {"type": "function_call", "call_id": call_id, "name": "f", "arguments": "{}", **name}
    return [call, {"type": "function_call_output", "call_id": call_id, "output": ""}]


def state(call_id: str = "a", thoughts: str = "Hm.") -> LoggedAnswer:
    return LoggedAnswer(thoughts, {call_id: {}})


class TestWithoutNeeds:
    def test_a_request_is_prepared_at_once(self) -> None:
        response = prepared(stream=True, metadata={"a": "b"}, something_new=1)

        assert (response.spec.id, response.spec.metadata) == (JOB, {"a": "b"})
        assert (response.streaming, response.background, response.prompt) == (True, False, None)
        assert response.unknown == ["something_new"]
        assert json.loads(response.spec.request)[KEPT] == response.echo
        assert response.spec.abandonment.on_disconnect is OnDisconnect.CANCEL

    def test_a_background_response_continues_without_its_caller(self) -> None:
        response = prepared(background=True)

        assert response.background
        assert (response.spec.viewer, response.spec.abandonment.on_disconnect) == (None, OnDisconnect.CONTINUE)

    def test_a_prompt_is_identified_if_tools_may_be_called(self) -> None:
        response = prepared(tools=TOOLS)

        assert response.prompt == prompt_fingerprint(messages(response))

    @pytest.mark.parametrize(
        ("fields", "param"),
        [({"input": 7}, "input"), ({"max_output_tokens": 0}, "max_output_tokens"), ({"metadata": 7}, "metadata")],
    )
    def test_a_refusal_names_the_field_by_its_name_in_responses(self, fields: dict[str, Any], param: str) -> None:
        with pytest.raises(InvalidRequest) as caught:
            step(**fields)
        assert caught.value.param == param


class TestEarlierResponses:
    def test_a_response_continues_the_messages_and_the_answer_of_an_earlier_one(self) -> None:
        previous = "resp_" + FORMER.removeprefix("job_")
        stored = {"messages": [{"role": "system", "content": "Be brief."}, USER], KEPT: {"instructions": "Be brief."}}
        earlier = Earlier(ended_job(FORMER), json.dumps(stored).encode(), completed_log({"content": "Hi."}))

        assert step(previous_response_id=previous) == NeedsPrevious(previous)
        assert messages(prepared(earlier, previous_response_id=previous)) == [
            USER,
            {"role": "assistant", "content": "Hi."},
            {"role": "user", "content": "And?"},
        ]

    def test_items_are_taken_from_the_outputs_of_the_jobs_that_they_name(self) -> None:
        reference = {"type": "item_reference", "id": item(FORMER)}
        output = encoded_output(options_of(ended_job(FORMER), {}), completed_log({"content": "Hi."}))

        assert step(input=[reference]) == NeedsOutputs([FORMER])
        assert messages(prepared([output], input=[reference, USER])) == [{"role": "assistant", "content": "Hi."}, USER]
        with pytest.raises(InvalidRequest, match="must be the id of an item"):
            step([], input=[reference])

    def test_few_responses_may_be_referred_to(self) -> None:
        jobs = [new_job_id(1, number) for number in range(REFERENCED_JOBS + 1)]

        with pytest.raises(InvalidRequest, match=f"at most {REFERENCED_JOBS} responses"):
            step(input=[{"type": "item_reference", "id": item(job)} for job in jobs])


class TestStates:
    def test_the_state_of_an_answer_comes_from_the_job_that_its_items_name(self) -> None:
        fields: dict[str, Any] = {"input": [USER, *called(FORMER)]}

        assert step(**fields) == NeedsStates([FORMER])
        assert messages(prepared([state()], **fields))[1]["reasoning_content"] == "Hm."

    def test_an_answer_without_a_job_is_found_by_its_prompt_among_several(self) -> None:
        fields: dict[str, Any] = {"input": [USER, *called()]}
        need = step(**fields)

        assert need == NeedsJobs([prompt_fingerprint([USER])])
        assert step([[OTHER, FORMER]], **fields) == NeedsStates([OTHER])
        assert step([[OTHER, FORMER]], [LoggedAnswer()], **fields) == NeedsStates([FORMER])
        found = prepared([[OTHER, FORMER]], [LoggedAnswer()], [state()], **fields)
        assert messages(found)[1]["reasoning_content"] == "Hm."

    def test_an_answer_that_no_job_has_given_stays_as_it_is(self) -> None:
        found = prepared([state("another")], input=[USER, *called(FORMER)])

        assert "reasoning_content" not in messages(found)[1]

    def test_answers_with_and_without_a_job_are_distinguished(self) -> None:
        fields: dict[str, Any] = {
            "input": [USER, *called(OTHER), {"role": "user", "content": "x"}, *called(call_id="b")]
        }

        assert isinstance(step(**fields), NeedsJobs)
        assert step([[FORMER]], **fields) == NeedsStates([FORMER, OTHER])

    def test_the_latest_answers_get_their_state_as_long_as_there_is_room(self) -> None:
        fields: dict[str, Any] = {
            "input": [USER, *called(OTHER), {"role": "user", "content": "x"}, *called(FORMER, "b")]
        }
        states = [state("b", "y" * 300), state("a", "x" * 300)]
        found = messages(prepared(states, most=400, **fields))

        assert [message.get("reasoning_content") for message in found if "tool_calls" in message] == [None, "y" * 300]
