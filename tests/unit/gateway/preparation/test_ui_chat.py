"""Test the preparation of `useChat`: what decides on the reading, and the spec of the next answer."""

import json
from typing import Any

import pytest

from gateway.preparation.ui_chat import (
    CHAT_ID,
    MESSAGE_ID,
    ChatHistory,
    PreparedTurn,
    UiFacts,
    prepare_turn,
    read_facts,
    read_stop,
)
from shared.model.errors import InvalidRequest
from shared.model.jobs import new_job_id
from tests.support.heads import JOB, head
from tests.support.logged import completed_log, ended_job

FORMER = new_job_id(1_700_000_000_000, 42)
SYSTEM = {"role": "system", "content": "Be brief."}


def said(name: str, text: str) -> dict[str, Any]:
    return {"id": name, "role": "user", "parts": [{"type": "text", "text": text}]}


def raw(**fields: Any) -> bytes:
    return json.dumps({"id": "c", **fields}).encode()


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def messages(turn: PreparedTurn) -> list[Any]:
    found: list[Any] = json.loads(turn.spec.request)["messages"]
    return found


def conversation(
    log: bytes, *, request: bytes = json.dumps({"messages": [SYSTEM, user("One")]}).encode()
) -> ChatHistory:
    job = ended_job(FORMER, metadata=json.dumps({MESSAGE_ID: "m1"}))
    return ChatHistory(job, request, log, [("", 1), ("a", 1)])


def test_the_facts_of_a_request_are_its_chat_and_whether_it_is_whole() -> None:
    assert read_facts(raw(messages=[said("a", "Hello?")], model="m")) == UiFacts("c", whole=True, names_model=True)
    assert read_facts(raw(message=said("a", "Hello?"))) == UiFacts("c", whole=False, names_model=False)


def test_a_whole_conversation_is_prepared_with_the_default_model() -> None:
    turn = prepare_turn(raw(messages=[said("a", "Hello?")]), head(), "m", None)

    assert (turn.spec.id, turn.spec.model, turn.turns) == (JOB, "m", [("a", 1)])
    assert turn.spec.metadata == {CHAT_ID: "c", MESSAGE_ID: "msg_" + JOB.removeprefix("job_")}
    assert messages(turn) == [user("Hello?")]


def test_the_model_of_a_request_comes_before_the_default() -> None:
    assert prepare_turn(raw(messages=[said("a", "x")], model="own"), head(), "", None).spec.model == "own"


def test_a_new_message_follows_the_turns_and_the_answer_of_a_conversation() -> None:
    former = conversation(completed_log({"content": "Hi."}))
    turn = prepare_turn(raw(message=said("b", "Two")), head(), "m", former)

    assert messages(turn) == [SYSTEM, user("One"), {"role": "assistant", "content": "Hi."}, user("Two")]
    assert turn.turns == [("", 1), ("a", 1), ("m1", 1), ("b", 1)]


def test_a_job_without_text_is_an_empty_turn_and_a_new_system_message_replaces_the_old() -> None:
    turn = prepare_turn(raw(message=said("b", "Two"), system="Be kind."), head(), "m", conversation(completed_log()))

    assert messages(turn) == [{"role": "system", "content": "Be kind."}, user("One"), user("Two")]
    assert turn.turns == [("", 1), ("a", 1), ("m1", 0), ("b", 1)]


def test_a_conversation_without_its_request_must_be_sent_whole() -> None:
    with pytest.raises(InvalidRequest, match="whole conversation"):
        prepare_turn(raw(message=said("b", "Two")), head(), "m", conversation(b"", request=b""))


def test_a_stop_names_a_job_or_none() -> None:
    assert read_stop(b"", "x-job") is None
    assert read_stop(b'{"activeStreamId": "job_1"}', "x-job") == "job_1"
    with pytest.raises(InvalidRequest, match="in the header x-job"):
        read_stop(b'{"activeStreamId": 7}', "x-job")
