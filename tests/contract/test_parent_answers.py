"""Test the answers of a job's parents as its worker reads them: whole and as they were proven, or not at all."""

import hashlib
import struct
from typing import Any

import pytest

from shared.model.errors import ParentGone, ParentsTooLarge
from shared.model.events import EventId, EventType, encode_data, encode_frame
from shared.model.jobs import Embedded, Job
from shared.model.lifecycle import State
from shared.model.parents import OnParentFailure
from shared.store.executions import Execution
from shared.store.replay_log import Entry
from shared.store.results import Results
from shared.store.wire.answers import Written
from tests.contract.stores import set_field
from tests.support.core import Core
from worker.execution import parent_answers
from worker.execution.ending import read_stream_digest
from worker.execution.parent_answers import ParentAnswers

TEXT = {"messages": [{"role": "user", "content": "Now: {{p0}}"}]}
VALUE = {"input": {"data": {"$result": "p0"}}}


@pytest.fixture
def answers(core: Core) -> ParentAnswers:
    return ParentAnswers(core.store, core.log, Results(core.client, core.keys))


async def write(core: Core, execution: Execution, *deltas: dict[str, Any]) -> None:
    frames = [
        encode_frame(EventType.DELTA, encode_data(delta), EventId(execution.epoch, seq))
        for seq, delta in enumerate(deltas, execution.seq + 1)
    ]
    first, last = execution.seq + 1, execution.seq + len(frames)
    entry = Entry(execution.job_id, execution.epoch, execution.owner, first, last, b"".join(frames))
    assert await core.append(entry) == [Written()]


async def end(core: Core, execution: Execution, status: State = State.COMPLETED, **outcome: Any) -> str:
    """End a job with the proof of its log; return its id."""
    digest, last = await read_stream_digest(core.log, execution.job_id)
    seq = last.seq + 1
    data = encode_data({"sha256": digest.sha256, "events": execution.base + seq, **outcome})
    frame = encode_frame(EventType(status.value), data, EventId(execution.epoch, seq))
    assert isinstance(
        await core.executions.finish(execution, seq=seq, frame=frame, status=status, outcome=data), Written
    )
    return execution.job_id


async def chat(core: Core, *texts: str, **changes: Any) -> str:
    """Make a chat that said this."""
    execution = await core.running(**changes)
    await write(core, execution, *({"content": text} for text in texts))
    return await end(core, execution)


async def embeddings(core: Core, *vectors: tuple[float, float], sha256: str = "") -> str:
    """Make a job with these vectors as its result."""
    execution = await core.running(kind="embeddings")
    stored = b"".join(struct.pack("<2f", *vector) for vector in vectors)
    proof = sha256 or hashlib.sha256(stored).hexdigest()
    embedded = Embedded("m", len(vectors), len(vectors), 2, 3, "provider", proof)
    frame = encode_frame(EventType.PROGRESS, b"{}", EventId(execution.epoch, 2))
    results = Results(core.client, core.keys)
    await results.keep(execution, seq=2, frame=frame, place=0, part=stored, embedded=embedded)
    return await end(core, execution, result=embedded.proof())


async def filled(core: Core, answers: ParentAnswers, parent_id: str, request: dict[str, Any] = TEXT) -> Any:
    """Return the text or the value that a child of this parent gets."""
    job = await core.waiting_for(parent_id)
    made = await answers.fill(job, request)
    return made["input"]["data"] if "input" in made else made["messages"][0]["content"]


async def test_the_text_of_a_chat_is_that_of_its_first_choice(core: Core, answers: ParentAnswers) -> None:
    execution = await core.running()
    await write(
        core,
        execution,
        {"role": "assistant", "reasoning_content": "Hm."},
        {"content": "Two "},
        {"content": "no", "index": 1},
        {"content": "rivers.", "logprobs": {}},
        {"content": None},
    )
    parent = await end(core, execution)

    assert await filled(core, answers, parent) == "Now: Two rivers."


async def test_a_text_is_what_survives_a_rollback(core: Core, answers: ParentAnswers) -> None:
    first = await core.running()
    await write(core, first, {"content": "Wrong."})
    second = await core.begin(first.job_id, "worker.2")
    await write(core, second, {"content": "Right."})

    assert await filled(core, answers, await end(core, second)) == "Now: Right."


@pytest.mark.parametrize(
    ("result", "text"), [("a word", "a word"), ({"é": [1, None]}, '{"é":[1,null]}'), (None, "null"), (0, "0")]
)
async def test_the_result_of_a_function_is_a_value_or_its_json(
    core: Core, answers: ParentAnswers, result: Any, text: str
) -> None:
    parent = await end(core, await core.running(kind="index"), result=result)

    assert await filled(core, answers, parent, VALUE) == result
    assert await filled(core, answers, parent) == f"Now: {text}"


async def test_vectors_are_lists_of_numbers(core: Core, answers: ParentAnswers) -> None:
    parent = await embeddings(core, (0.5, -1.0), (2.0, 0.25))

    assert await filled(core, answers, parent, VALUE) == [[0.5, -1.0], [2.0, 0.25]]
    assert await filled(core, answers, parent) == "Now: [[0.5,-1.0],[2.0,0.25]]"


async def test_a_parent_that_did_not_complete_has_no_answer(core: Core, answers: ParentAnswers) -> None:
    execution = await core.running()
    await write(core, execution, {"content": "Half of it"})
    parent = await end(core, execution, State.FAILED)

    assert await filled(core, answers, parent) == "Now: "
    assert await filled(core, answers, parent, VALUE) is None


@pytest.mark.parametrize("request_", [{}, {"messages": [{"content": "{{other}}"}]}])
async def test_a_job_without_parents_keeps_its_request(
    core: Core, answers: ParentAnswers, request_: dict[str, Any]
) -> None:
    job = await core.job(await core.queued())

    assert await answers.fill(job, request_) is request_


async def test_parents_that_are_not_referred_to_are_not_read(core: Core, answers: ParentAnswers) -> None:
    job = await core.waiting_for("job_gone", on_failure=OnParentFailure.RUN)

    assert await answers.fill(job, {"x": "no names"}) == {"x": "no names"}


# Answers that are gone, or not whole.


async def gone(core: Core, answers: ParentAnswers, parent_id: str, request: dict[str, Any] = TEXT) -> bool:
    """Return whether the child's error says that the answer is gone, with the parent's id and its name."""
    with pytest.raises(ParentGone) as error:
        await filled(core, answers, parent_id, request)
    return str(error.value) == f"The answer of the job {parent_id} (p0) is not stored any more."


async def test_a_parent_without_a_record_is_gone(core: Core, answers: ParentAnswers) -> None:
    assert await gone(core, answers, "job_gone")


async def test_a_parent_that_its_owner_has_deleted_is_gone(core: Core, answers: ParentAnswers) -> None:
    parent = await chat(core, "A secret.")
    await set_field(core, parent, hidden=1)

    assert await gone(core, answers, parent)


async def test_a_parent_of_another_tenant_is_gone(core: Core, answers: ParentAnswers) -> None:
    assert await gone(core, answers, await chat(core, "A secret.", tenant="bob"))


@pytest.mark.parametrize("lost", ["all of it", "its begin"])
async def test_a_parent_whose_log_is_not_whole_is_gone(core: Core, answers: ParentAnswers, lost: str) -> None:
    parent = await chat(core, "The ", "whole text.")
    log = core.keys.job(parent).log
    if lost == "all of it":
        await core.client.delete(log)
    else:
        await core.client.xtrim(log, maxlen=1, approximate=False)

    assert await gone(core, answers, parent)


async def test_a_parent_that_expires_while_it_is_read_is_gone(
    core: Core, answers: ParentAnswers, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = await chat(core, "The text.")
    load = core.store.load_many

    async def load_once(job_ids: list[str]) -> list[Any]:
        jobs = await load(job_ids)
        await core.client.delete(core.keys.job(parent).record)
        return jobs

    monkeypatch.setattr(core.store, "load_many", load_once)
    assert await gone(core, answers, parent)


@pytest.mark.parametrize("sha256", ["0" * 64, ""])
async def test_vectors_that_are_not_as_proven_are_gone(core: Core, answers: ParentAnswers, sha256: str) -> None:
    parent = await embeddings(core, (0.5, -1.0), sha256=sha256)
    if not sha256:
        await core.client.delete(core.keys.job(parent).result)

    assert await gone(core, answers, parent, VALUE)


@pytest.mark.parametrize("kind", ["text", "vectors", "value"])
async def test_an_answer_that_is_too_large_is_not_read_into_memory(
    core: Core, answers: ParentAnswers, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parent_answers, "FILLED_BYTES", 10)
    monkeypatch.setattr("shared.model.references.FILLED_BYTES", 10)
    match kind:
        case "text":
            parent = await chat(core, "x" * 6, "y" * 5)
        case "vectors":
            parent = await embeddings(core, (0.5, -1.0))
        case _:
            parent = await end(core, await core.running(kind="index"), result="x" * 11)

    with pytest.raises(ParentsTooLarge, match="more than 10 characters"):
        await filled(core, answers, parent)


async def test_two_parents_fill_one_request(core: Core, answers: ParentAnswers) -> None:
    one, two = await chat(core, "one"), await chat(core, "two")
    job: Job = await core.waiting_for(one, two, one)

    made = await answers.fill(job, {"x": ["{{p1}} {{p0}} {{p2}}", {"y": "{{p1}}"}]})

    assert made == {"x": ["two one one", {"y": "two"}]}
