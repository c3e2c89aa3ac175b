"""How a job ends: the terminal event with its proof (count and hash), written by whoever may.

Above: attempts.py ends what it ran, reaper.py what nobody runs any more. Below: store (which decides whether it is
accepted) and the log, from which count and hash are read where the caller does not know them. Not here: when to end.
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
from shared.store.answers import FinishAnswer
from shared.store.jobs import Execution, Store
from shared.store.replay_log import ReplayLog
from shared.store.retrying import retry_until_redis_answers
from worker.model.digest import PartialAnswer, StreamDigest
from worker.model.token_estimate import Savings

DigestT = TypeVar("DigestT", bound=StreamDigest)

# How many characters make a token, where nobody counted: good enough to be called an estimate.
_CHARS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Ending:
    """A terminal event, before it has its place in the log."""

    state: State
    data: Mapping[str, Any]


def completed(finish_reasons: list[str | None], usage: Usage, tally: StreamDigest) -> Ending:
    """The job did what it was asked for."""
    return Ending(
        State.COMPLETED,
        {
            "finish_reason": finish_reasons[0] if finish_reasons else None,
            "finish_reasons": finish_reasons,
            "usage": usage.as_dict(),
            "sha256": tally.sha256,
        },
    )


def with_result(ending: Ending, embedded: Embedded | None) -> Ending:
    """The same, and the proof of what the job keeps as its result; None: that is nothing, or its kind has none."""
    return ending if embedded is None else replace(ending, data={**ending.data, "result": embedded.proof()})


def ended_badly(error: TailraceError, usage: Usage | None, tally: StreamDigest) -> Ending:
    """The job ended without success."""
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
            "sha256": tally.sha256,
        },
    )


async def finish(store: Store, execution: Execution, ending: Ending, seq: int) -> FinishAnswer:
    """Write the terminal event as number `seq` of the execution; wait while Redis is unavailable."""
    data = encode_data({**ending.data, "events": execution.base + seq})
    frame = encode_frame(EventType(ending.state.value), data, EventId(execution.epoch, seq))
    return await retry_until_redis_answers(
        lambda: store.finish(execution, seq=seq, frame=frame, status=ending.state, outcome=data)
    )


async def finish_from_log(
    store: Store,
    replay_log: ReplayLog,
    execution: Execution,
    error: TailraceError,
    prompt_tokens: int,
    savings: Savings | None = None,
) -> FinishAnswer:
    """End a job badly, with the count and hash of what its log really holds; an abandoned one says what it saved."""
    tally, latest = await retry_until_redis_answers(lambda: read_stream_digest(replay_log, execution.job_id))
    embedded = await retry_until_redis_answers(lambda: store.embedded(execution.job_id))
    usage = embedded.usage if embedded else None
    if tally.deltas:
        usage = Usage(prompt_tokens, tally.deltas, "partial")
    ending = with_result(ended_badly(error, usage, tally), embedded)
    if isinstance(error, Abandoned):
        job_id, savings = execution.job_id, savings or Savings()
        saved = await retry_until_redis_answers(lambda: saved_tokens(store, job_id, tally.deltas, savings))
        ending = Ending(ending.state, {**ending.data, "tokens_saved": saved})
    seq = latest.seq + 1 if latest.epoch == execution.epoch else 1
    return await finish(store, execution, ending, seq)


async def saved_tokens(store: Store, job_id: str, generated: int, savings: Savings) -> int:
    """What an abandoned job would still have cost; 0 where its request can't be read."""
    try:
        return savings.of(await store.request(job_id), generated)
    except BrokenJob:
        return 0


async def read_stream_digest(replay_log: ReplayLog, job_id: str) -> tuple[StreamDigest, EventId]:
    """Count and hash of the surviving deltas, and the log's last id."""
    return await _tally_to(replay_log, job_id, None, StreamDigest)


async def read_partial_answer(replay_log: ReplayLog, job_id: str) -> tuple[PartialAnswer, EventId]:
    """The same, and what the surviving deltas say."""
    return await _tally_to(replay_log, job_id, None, PartialAnswer)


async def _tally_to(
    replay_log: ReplayLog, job_id: str, end: EventId | None, make: Callable[[], DigestT]
) -> tuple[DigestT, EventId]:
    """The tally of the log up to `end`. It holds no more than a page: what survives a rollback is read again."""
    tally, cursor, more = make(), START, True
    while more:
        page = await replay_log.read_after(job_id, cursor, max_bytes=PAGE_BYTES)
        for frame in (frame for entry in page.entries for frame in split_frames(entry)):
            event_id = first_id(frame)
            if end is not None and event_id > end:
                return tally, cursor
            # Events that a newer version wrote count; what they say does not matter here.
            if frame.startswith(b"event: delta\n"):
                tally.add(decode_frame(frame).data)
            elif frame.startswith(b"event: rollback\n"):
                to = parse_id(decode_frame(frame).json()["to"])
                tally, _ = await _tally_to(replay_log, job_id, min(to, cursor), make)
            cursor = event_id
        more = page.more
    return tally, cursor


def estimate_tokens(request: Mapping[str, Any]) -> int:
    """About how many tokens a prompt has, where the provider did not say."""
    return -(-_characters(request.get("messages")) // _CHARS_PER_TOKEN)


def estimate_input_tokens(inputs: Sequence[str | list[int]]) -> int:
    """The same of inputs to embed; those that are tokens already are counted."""
    return sum(len(each) if isinstance(each, list) else -(-len(each) // _CHARS_PER_TOKEN) for each in inputs)


def _characters(value: object) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(map(_characters, value.values()))
    return sum(map(_characters, value)) if isinstance(value, list) else 0
