"""Test the transcript of a job's events: its text, its rollbacks, and the proof at its end."""

import hashlib
from typing import Any

import pytest

from gateway.client.model.transcript import Counted, Proof, Said, TakenBack, ToolCall, Transcript, Voice
from shared.model.errors import GatewayGarbage
from shared.model.events import START, EventId, EventType, encode_data
from shared.model.sse_parser import SentEvent


def sent(name: str, event_id: str | None, **data: Any) -> SentEvent:
    return SentEvent(name, encode_data(data), event_id)


def end(event_id: str, *deltas: SentEvent, events: int, name: str = EventType.COMPLETED) -> SentEvent:
    """Build a terminal event that proves these deltas."""
    digest = hashlib.sha256(b"".join(delta.data for delta in deltas)).hexdigest()
    return sent(name, event_id, finish_reason="stop", events=events, sha256=digest)


def answer(text: str) -> tuple[Said, ...]:
    return (Said(Voice.ANSWER, text),)


QUEUED = sent("queued", "0-1", job="job_x")
STARTED = sent("started", "1-1", attempt=1)
ONE = sent("delta", "1-2", content="one ")
TWO = sent("delta", "1-3", content="two")


def read(*events: SentEvent, cursor: EventId = START) -> Transcript:
    transcript = Transcript(cursor)
    for event in events:
        transcript.apply(event)
    return transcript


def test_deltas_add_up_to_the_answer_and_the_end_proves_it() -> None:
    transcript = Transcript()

    changes = [transcript.apply(each) for each in (QUEUED, STARTED, ONE, TWO, end("1-4", ONE, TWO, events=5))]

    assert changes == [(), (), answer("one "), answer("two"), ()]
    assert (transcript.text, transcript.proof) == ("one two", Proof.WHOLE)
    assert transcript.end is not None and transcript.end.type is EventType.COMPLETED
    assert str(transcript.cursor) == "1-4"


def test_before_the_end_nothing_is_proven() -> None:
    assert read(QUEUED, STARTED, ONE).proof is Proof.PARTIAL


@pytest.mark.parametrize("events", [(QUEUED, STARTED, TWO), (QUEUED, STARTED, ONE, TWO, TWO._replace(id="1-9"))])
def test_an_event_that_is_missing_or_too_many_breaks_the_proof(events: tuple[SentEvent, ...]) -> None:
    assert read(*events, end("1-10", ONE, TWO, events=5)).proof is Proof.BROKEN


def test_another_text_breaks_the_proof() -> None:
    other = TWO._replace(data=encode_data({"content": "tow"}))

    assert read(QUEUED, STARTED, ONE, other, end("1-4", ONE, TWO, events=5)).proof is Proof.BROKEN


def test_an_end_without_a_proof_proves_nothing() -> None:
    assert read(QUEUED, sent("failed", "1-1", error={})).proof is Proof.BROKEN


def test_a_transcript_from_the_middle_proves_only_a_part() -> None:
    transcript = read(TWO, end("1-4", ONE, TWO, events=5), cursor=EventId(1, 2))

    assert (transcript.text, transcript.proof) == ("two", Proof.PARTIAL)


def test_an_event_applied_before_changes_nothing() -> None:
    transcript = read(QUEUED, STARTED, ONE)

    assert transcript.apply(ONE) == transcript.apply(QUEUED) == ()
    assert transcript.text == "one "


def test_nothing_follows_the_end() -> None:
    transcript = read(QUEUED, STARTED, ONE, end("1-3", ONE, events=4))

    assert transcript.apply(TWO._replace(id="1-4")) == ()
    assert transcript.text == "one "


def test_a_rollback_removes_the_text_after_its_target() -> None:
    transcript = read(QUEUED, STARTED, ONE, TWO)

    changes = transcript.apply(sent("rollback", "2-1", to="1-2", reason="worker_lost"))

    assert changes == (TakenBack("The attempt was lost (worker_lost)."),)
    assert transcript.text == "one "
    anew = sent("delta", "2-2", content="three")
    transcript.apply(anew)
    transcript.apply(end("2-3", ONE, anew, events=7))
    assert (transcript.text, transcript.proof) == ("one three", Proof.WHOLE)


def test_a_rollback_without_printed_text_removes_nothing() -> None:
    role = sent("delta", "1-2", role="assistant")
    transcript = read(QUEUED, STARTED, role)

    assert transcript.apply(sent("rollback", "2-1", to="0-1")) == ()
    assert transcript.apply(end("2-2", events=5)) == ()
    assert transcript.proof is Proof.WHOLE


def test_a_rollback_may_have_no_reason() -> None:
    changes = read(QUEUED, STARTED, ONE).apply(sent("rollback", "2-1", to="0-1"))

    assert changes == (TakenBack("The attempt was lost."),)


def test_a_gap_removes_all_text_and_the_log_follows_from_its_start() -> None:
    transcript = read(QUEUED, STARTED, ONE, TWO)
    gap = sent("gap", None, requested="1-3", earliest="0-1", latest="1-2")

    (change,) = transcript.apply(gap)

    assert isinstance(change, TakenBack)
    assert (transcript.text, transcript.cursor) == ("", START)
    for event in (QUEUED, STARTED, ONE, end("1-3", ONE, events=4)):
        transcript.apply(event)
    assert (transcript.text, transcript.proof) == ("one ", Proof.WHOLE)


def test_a_gap_before_any_text_removes_nothing() -> None:
    assert read(QUEUED).apply(sent("gap", None)) == ()


def test_a_gap_into_the_middle_of_the_log_leaves_only_a_partial_proof() -> None:
    transcript = read(QUEUED, STARTED, ONE, sent("gap", None), TWO, end("1-4", ONE, TWO, events=5))

    assert (transcript.text, transcript.proof) == ("two", Proof.PARTIAL)


def test_an_event_that_is_not_in_the_log_does_not_count() -> None:
    transcript = read(QUEUED, sent("position", None, position=3), STARTED, ONE, end("1-3", ONE, events=4))

    assert transcript.proof is Proof.WHOLE


def test_events_of_a_newer_version_count_and_print_nothing() -> None:
    transcript = read(QUEUED, STARTED, sent("applause", "1-2"), TWO, end("1-4", TWO, events=5))

    assert (transcript.text, transcript.proof) == ("two", Proof.WHOLE)


def test_reasoning_has_its_own_voice_and_is_not_in_the_answer() -> None:
    thought = sent("delta", "1-2", reasoning_content="hm", content="yes")
    transcript = Transcript()

    assert transcript.apply(thought) == (Said(Voice.REASONING, "hm"), Said(Voice.ANSWER, "yes"))
    assert transcript.text == "yes"


def test_a_refusal_is_text_of_the_answer() -> None:
    assert read(sent("delta", "1-2", refusal="I won't.")).text == "I won't."


def test_only_the_first_choice_is_read() -> None:
    call = [{"index": 0, "function": {"name": "f", "arguments": "{}"}}]
    other = sent("delta", "1-3", index=1, content="other", tool_calls=call)

    transcript = read(ONE, other)

    assert (transcript.text, transcript.tool_calls) == ("one ", [])


@pytest.mark.parametrize("text", [None, 7, ["a"], {}], ids=str)
def test_a_text_that_is_not_a_string_is_garbage(text: Any) -> None:
    with pytest.raises(GatewayGarbage, match="whose text is not a string"):
        read(sent("delta", "1-2", content=text))


def test_tool_calls_are_put_together_from_their_fragments() -> None:
    weather = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
    fragments: list[Any] = [
        [weather],
        [{"index": 0, "function": {"arguments": '{"city":'}}],
        [{"index": 1, "id": "call_2", "type": "function", "function": {"name": "second", "arguments": "{}"}}],
        [{"index": 0, "function": {"arguments": '"Paris"}'}}, {"index": 1, "extra_content": {"signature": "s"}}],
        [{"index": 2, "id": "call_3", "type": "custom", "custom": {"name": "third", "input": "a"}}],
        [{"index": 2, "custom": {"input": "b"}}],
    ]
    deltas = [sent("delta", f"1-{number}", tool_calls=calls) for number, calls in enumerate(fragments, 2)]
    other = sent("delta", "1-19", tool_calls=[weather], index=1)

    assert read(*deltas, other, ONE._replace(id="1-20")).tool_calls == [
        ToolCall("weather", '{"city":"Paris"}'),
        ToolCall("second", "{}"),
        ToolCall("third", "ab"),
    ]


@pytest.mark.parametrize(
    "calls", ["nonsense", 7, ["nonsense"], [{"function": {"name": "f"}}], [{"index": "0"}]], ids=str
)
def test_a_tool_call_without_an_index_is_garbage(calls: Any) -> None:
    with pytest.raises(GatewayGarbage, match="a tool call without an index"):
        _ = read(sent("delta", "1-2", tool_calls=calls)).tool_calls


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_event_data_that_is_not_an_object_is_garbage(data: bytes) -> None:
    with pytest.raises(GatewayGarbage, match="the data of an event \\('delta'\\) that is not a JSON object"):
        Transcript().apply(SentEvent("delta", data, "1-1"))


def test_bytes_that_are_not_utf_8_are_replaced() -> None:
    broken = SentEvent("delta", b'{"content":"caf\xe9"}', "1-1")

    assert read(broken).text == "caf\ufffd"


@pytest.mark.parametrize("event", [sent("delta", "one"), sent("rollback", "2-1", to="-"), sent("rollback", "2-1")])
def test_a_malformed_event_id_is_garbage(event: SentEvent) -> None:
    with pytest.raises(GatewayGarbage, match="as the id of an event"):
        Transcript().apply(event)


@pytest.mark.parametrize(
    ("data", "how_far"), [({"message": "3 of 5 inputs"}, "3 of 5 inputs"), ({"done": 3, "total": 5}, "3 of 5")]
)
def test_a_job_with_progress_reports_it_and_its_events_are_proven(data: dict[str, object], how_far: str) -> None:
    transcript = read(QUEUED, STARTED)

    assert transcript.apply(sent("progress", "1-2", **data)) == (Counted(how_far),)

    transcript.apply(end("1-3", events=4))
    assert (transcript.text, transcript.proof) == ("", Proof.WHOLE)
