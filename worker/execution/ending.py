"""Write a job's terminal event with its proof: the count and the hash of its deltas.

The store decides whether the event is accepted. If the caller does not know count and hash, they are read from the log.
Not here: the decision when a job ends (attempt_sequence.py; for jobs without a worker, worker/dispatch/reaper.py).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from shared.model.bounds import PAGE_BYTES
from shared.model.errors import Abandoned, BrokenJob, Cancelled, DeadlinePassed, TailraceError, problem_of
from shared.model.events import (
    START,
    EventId,
    EventType,
    decode_frame,
    encode_data,
    encode_frame,
    first_id,
    parse_id,
    split_frames,
)
from shared.model.jobs import Embedded, Usage
from shared.model.lifecycle import State
from shared.store.executions import Execution, Executions
from shared.store.jobs import JobRecords
from shared.store.replay_log import Entry, ReplayLog
from shared.store.retrying import retry_until_redis_answers
from shared.store.wire.answers import Behind, FinishAnswer
from worker.execution.pump import Outbox
from worker.model.digest import AnswerText, PartialAnswer, StreamDigest
from worker.model.token_estimate import SavedTokenEstimate

DigestT = TypeVar("DigestT", bound=StreamDigest)

# The characters of a token, if no provider counted: accurate enough for a number that is marked as an estimate.
_CHARS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Ending:
    """A terminal event that does not have its position in the log yet.

    `first_token_left_s` is the time that remained until the job's deadline at its first token, if the execution knows.
    """

    state: State
    data: Mapping[str, Any]
    first_token_left_s: float | None = None


def completed(finish_reasons: list[str | None], usage: Usage, digest: StreamDigest) -> Ending:
    """Build the end of a job that succeeded."""
    return Ending(
        State.COMPLETED,
        {
            "finish_reason": finish_reasons[0] if finish_reasons else None,
            "finish_reasons": finish_reasons,
            "usage": usage.as_dict(),
            "sha256": digest.sha256,
        },
    )


def with_result(ending: Ending, embedded: Embedded | None) -> Ending:
    """Add the proof of the stored result to an ending.

    `embedded` is None if nothing is stored, or if the kind has no result; then the ending stays as it is.
    """
    return ending if embedded is None else replace(ending, data={**ending.data, "result": embedded.proof()})


def ended_badly(error: TailraceError, usage: Usage | None, digest: StreamDigest) -> Ending:
    """Build the end of a job that did not succeed."""
    state = State.FAILED
    if isinstance(error, Cancelled):
        state = State.CANCELLED
    elif isinstance(error, DeadlinePassed):
        state = State.EXPIRED
    return Ending(
        state,
        {
            "error": problem_of(error),
            "usage": None if usage is None else usage.as_dict(),
            "sha256": digest.sha256,
        },
    )


async def finish(
    executions: Executions,
    execution: Execution,
    ending: Ending,
    seq: int,
    last: Entry | None = None,
    result: bytes | None = None,
) -> FinishAnswer:
    """Write the terminal event as number `seq` of the execution; wait while Redis is unavailable.

    The `last` frames before it are written in the same step.
    """
    data = encode_data({**ending.data, "events": execution.base + seq})
    frame = encode_frame(EventType(ending.state.value), data, EventId(execution.epoch, seq))
    return await retry_until_redis_answers(
        lambda: executions.finish(
            execution, seq=seq, frame=frame, status=ending.state, outcome=data, result=result, last=last
        )
    )


async def finish_with_outbox(
    executions: Executions, outbox: Outbox, ending: Ending, result: bytes | None = None
) -> FinishAnswer:
    """Write the terminal event after all events of an outbox, those that it withholds included.

    Events that Redis lost meanwhile are sent again first. If this fails, the outbox is stopped.
    """
    while True:
        answer = await finish(executions, outbox.execution, ending, outbox.seq + 1, outbox.held_entry(), result)
        if not isinstance(answer, Behind) or not outbox.send_again(answer.log_end):
            return answer
        await outbox.flushed()


async def finish_from_log(
    store: JobRecords,
    executions: Executions,
    replay_log: ReplayLog,
    execution: Execution,
    error: TailraceError,
    prompt_tokens: int,
    token_estimate: SavedTokenEstimate | None = None,
) -> FinishAnswer:
    """End a job with an error and with its log's own count and hash. An abandoned job also records the saved tokens."""
    digest, latest = await retry_until_redis_answers(lambda: read_stream_digest(replay_log, execution.job_id))
    embedded = await retry_until_redis_answers(lambda: store.embedded(execution.job_id))
    usage = embedded.usage if embedded else None
    if digest.deltas:
        usage = Usage(prompt_tokens, digest.deltas, "partial")
    ending = with_result(ended_badly(error, usage, digest), embedded)
    if isinstance(error, Abandoned):
        job_id, token_estimate = execution.job_id, token_estimate or SavedTokenEstimate()
        saved = await retry_until_redis_answers(lambda: saved_tokens(store, job_id, digest.deltas, token_estimate))
        ending = Ending(ending.state, {**ending.data, "tokens_saved": saved})
    seq = latest.seq + 1 if latest.epoch == execution.epoch else 1
    return await finish(executions, execution, ending, seq)


async def saved_tokens(store: JobRecords, job_id: str, generated: int, token_estimate: SavedTokenEstimate) -> int:
    """Estimate the tokens that an abandoned job would still have cost; 0 if its request can't be read."""
    try:
        return token_estimate.of(await store.request(job_id), generated)
    except BrokenJob:
        return 0


async def read_stream_digest(replay_log: ReplayLog, job_id: str) -> tuple[StreamDigest, EventId]:
    """Read the count and hash of the surviving deltas, and the log's last id."""
    return await _digest_to(replay_log, job_id, None, StreamDigest)


async def read_partial_answer(replay_log: ReplayLog, job_id: str) -> tuple[PartialAnswer, EventId]:
    """Read the partial answer that the surviving deltas form, and the log's last id."""
    return await _digest_to(replay_log, job_id, None, PartialAnswer)


async def read_answer_text(replay_log: ReplayLog, job_id: str, most: int) -> AnswerText:
    """Read the text of a job's first choice, up to `most` characters, with the hash of all surviving deltas."""
    return (await _digest_to(replay_log, job_id, None, lambda: AnswerText(most)))[0]


async def _digest_to(
    replay_log: ReplayLog, job_id: str, end: EventId | None, make: Callable[[], DigestT]
) -> tuple[DigestT, EventId]:
    """Read the digest of the log up to `end`.

    It holds one page at most: after a rollback, the surviving deltas are read again.
    """
    digest, cursor, more = make(), START, True
    while more:
        page = await replay_log.read_after(job_id, cursor, max_bytes=PAGE_BYTES)
        for frame in (frame for entry in page.entries for frame in split_frames(entry)):
            event_id = first_id(frame)
            if end is not None and event_id > end:
                return digest, cursor
            # Events of a newer version count too; their content does not matter here.
            if frame.startswith(b"event: delta\n"):
                digest.add(decode_frame(frame).data)
            elif frame.startswith(b"event: rollback\n"):
                to = parse_id(decode_frame(frame).json()["to"])
                digest, _ = await _digest_to(replay_log, job_id, min(to, cursor), make)
            cursor = event_id
        more = page.more
    return digest, cursor


def estimate_tokens(request: Mapping[str, Any]) -> int:
    """Estimate the tokens of a prompt if the provider did not count them."""
    return -(-_characters(request.get("messages")) // _CHARS_PER_TOKEN)


def estimate_input_tokens(inputs: Sequence[str | list[int]]) -> int:
    """Estimate the tokens of inputs to embed; inputs that are tokens already are counted."""
    return sum(len(each) if isinstance(each, list) else -(-len(each) // _CHARS_PER_TOKEN) for each in inputs)


def _characters(value: object) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(map(_characters, value.values()))
    return sum(map(_characters, value)) if isinstance(value, list) else 0
