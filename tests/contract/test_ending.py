"""Test the end of a job: one terminal event, with the count and the hash that prove the contents of the log."""

import asyncio
import hashlib
import tracemalloc
from collections.abc import Awaitable, Callable

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from shared.model.bounds import PAGE_BYTES
from shared.model.errors import Cancelled, DeadlinePassed, InternalError, ProviderRefused, TailraceError
from shared.model.events import START, Event, EventId, EventType, decode_frame, encode_data, encode_frame, split_frames
from shared.model.jobs import Usage
from shared.model.lifecycle import State
from shared.process.embedded_valkey import EmbeddedValkey
from shared.store.jobs import EMPTY_SHA256
from shared.store.replay_log import Entry
from shared.store.retrying import retry_until_redis_answers
from shared.store.wire.answers import FinishAnswer, Written
from tests.support.core import TIMEOUT_S, Core, captured_logs, frames_of, frozen
from worker.execution.ending import (
    Ending,
    completed,
    ended_badly,
    estimate_tokens,
    finish,
    finish_from_log,
    read_stream_digest,
)
from worker.model.digest import StreamDigest

LOST = InternalError("It was lost.")


def sha256_of(*texts: str) -> str:
    """Compute the hash of a reader that got exactly these deltas."""
    return hashlib.sha256(b"".join(encode_data({"content": text}) for text in texts)).hexdigest()


def tally_of(*texts: str) -> StreamDigest:
    digest = StreamDigest()
    for text in texts:
        digest.add(encode_data({"content": text}))
    return digest


async def last_event(core: Core, job_id: str) -> Event:
    return (await core.events(job_id))[-1]


# The contents of the terminal event.


def test_a_tally_counts_and_hashes_the_deltas_in_order() -> None:
    assert (tally_of().deltas, tally_of().sha256) == (0, EMPTY_SHA256)
    assert (tally_of("a", "b").deltas, tally_of("a", "b").sha256) == (2, sha256_of("a", "b"))
    assert tally_of("a", "b").sha256 != tally_of("b", "a").sha256


def test_a_completed_outcome_has_the_finish_reason_of_each_choice() -> None:
    usage = Usage(3, 4, "provider")

    ending = completed(["stop", None, "length"], usage, tally_of("a"))

    assert ending.state is State.COMPLETED
    assert ending.data == {
        "finish_reason": "stop",
        "finish_reasons": ["stop", None, "length"],
        "usage": usage.as_dict(),
        "sha256": sha256_of("a"),
    }
    assert completed([], usage, tally_of()).data["finish_reason"] is None


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (ProviderRefused("No."), State.FAILED),
        (LOST, State.FAILED),
        (Cancelled.because("cancelled"), State.CANCELLED),
        (Cancelled.because("abandoned"), State.CANCELLED),
        (DeadlinePassed("Over."), State.EXPIRED),
    ],
    ids=lambda value: getattr(value, "code", str(value)),
)
def test_the_error_decides_how_a_job_ended(error: TailraceError, state: State) -> None:
    ending = ended_badly(error, None, tally_of("a"))

    assert ending.state is state
    assert ending.data["error"] == {
        "type": "provider_error" if isinstance(error, ProviderRefused) else "job_error",
        "code": error.code,
        "message": str(error),
        "retryable": False,
    }
    assert (ending.data["usage"], ending.data["sha256"]) == (None, sha256_of("a"))
    assert ended_badly(error, Usage(1, 1, "partial"), tally_of("a")).data["usage"]["source"] == "partial"


@pytest.mark.parametrize(
    ("messages", "tokens"),
    [
        (None, 0),
        ([], 0),
        ([{"content": None}], 0),
        ([{"content": "12345678"}], 2),
        ([{"content": "123456789"}], 3),
        ([{"role": "user", "content": [{"type": "text", "text": "1234"}, {"n": 5}]}], 3),
    ],
    ids=str,
)
def test_tokens_are_estimated_from_all_texts_of_the_messages(messages: object, tokens: int) -> None:
    assert estimate_tokens({"messages": messages, "model": "does not count"}) == tokens


# Writing it.


async def test_the_terminal_event_counts_all_logged_events_itself_included(core: Core) -> None:
    execution = await core.running()
    await core.append(frames_of(execution, 2, "a", "b"))

    answer = await finish(core.executions, execution, Ending(State.COMPLETED, {"sha256": "x"}), 4)

    assert answer == Written()
    event = await last_event(core, execution.job_id)
    assert (event.type, event.id) == (EventType.COMPLETED, EventId(1, 4))
    assert event.json() == {"sha256": "x", "events": len(await core.events(execution.job_id))}
    assert (await core.job(execution.job_id)).outcome == event.json()


async def test_the_count_continues_over_several_executions(core: Core) -> None:
    first = await core.running("w.1")
    await core.append(frames_of(first, 2, "a", "b"))
    second = await core.begin(first.job_id, "w.2")
    await core.append(frames_of(second, 3, "c"))

    await finish(core.executions, second, Ending(State.COMPLETED, {}), 4)

    assert (await last_event(core, first.job_id)).json()["events"] == len(await core.events(first.job_id)) == 8


# From the log.


async def test_a_job_that_never_began_ends_with_nothing(core: Core) -> None:
    job_id = await core.queued()
    execution = await core.take_over(job_id)

    assert (
        await finish_from_log(core.store, core.executions, core.log, execution, DeadlinePassed("Over."), 7) == Written()
    )

    event = await last_event(core, job_id)
    assert (event.type, event.id) == (EventType.EXPIRED, EventId(1, 1))
    assert event.json() == {**event.json(), "usage": None, "events": 2, "sha256": EMPTY_SHA256}


async def test_a_job_ended_in_its_workers_place_keeps_its_deltas(core: Core) -> None:
    former = await core.running()
    await core.append(frames_of(former, 2, "a", "b"), frames_of(former, 4, "c"))
    execution = await core.take_over(former.job_id)

    assert await finish_from_log(core.store, core.executions, core.log, execution, LOST, 7) == Written()

    event = await last_event(core, former.job_id)
    assert (event.type, event.id) == (EventType.FAILED, EventId(2, 1))
    assert event.json()["events"] == len(await core.events(former.job_id))
    assert event.json()["sha256"] == sha256_of("a", "b", "c")
    assert event.json()["usage"] == Usage(7, 3, "partial").as_dict()


async def test_a_cancelled_execution_ends_right_after_its_last_logged_event(core: Core) -> None:
    execution = await core.running()
    await core.append(frames_of(execution, 2, "a"))
    await core.cancel(execution.job_id)

    assert (
        await finish_from_log(core.store, core.executions, core.log, execution, Cancelled.because("cancelled"), 1)
        == Written()
    )

    assert await core.story(execution.job_id) == ["0-1 queued", "1-1 started", "1-2 delta", "1-3 cancelled"]
    assert (await last_event(core, execution.job_id)).json()["sha256"] == sha256_of("a")


async def test_rolled_back_deltas_are_not_in_the_digest(core: Core) -> None:
    first = await core.running("w.1")
    await core.append(frames_of(first, 2, "wrong", "way"))
    second = await core.begin(first.job_id, "w.2")
    await core.append(frames_of(second, 3, "right"))

    digest, latest = await read_stream_digest(core.log, first.job_id)

    assert (digest.deltas, digest.sha256, latest) == (1, sha256_of("right"), EventId(2, 3))


async def test_events_of_a_newer_version_are_counted_at_the_end_of_a_job(core: Core) -> None:
    execution = await core.running()
    news = b"event: thought\ndata: {}\nid: 1-3\n\n"
    answers = await core.append(
        frames_of(execution, 2, "a"),
        Entry(execution.job_id, execution.epoch, execution.owner, 3, 3, news),
        frames_of(execution, 4, "b"),
    )
    assert answers == [Written()] * 3
    await core.cancel(execution.job_id)

    assert (
        await finish_from_log(core.store, core.executions, core.log, execution, Cancelled.because("cancelled"), 1)
        == Written()
    )

    frames = list(split_frames(await core.log_bytes(execution.job_id)))
    end = decode_frame(frames[-1])
    assert (end.type, end.id) == (EventType.CANCELLED, EventId(1, 5))
    assert (end.json()["events"], end.json()["sha256"]) == (len(frames), sha256_of("a", "b"))


async def test_a_job_that_has_ended_stays_as_it_ended(core: Core) -> None:
    execution = await core.running()

    async def end(error: TailraceError) -> FinishAnswer:
        return await finish_from_log(core.store, core.executions, core.log, execution, error, 0)

    assert await end(LOST) == Written()
    assert await end(LOST) == "ended"
    assert await end(DeadlinePassed("Over.")) == "ended"
    assert (await core.job(execution.job_id)).status is State.FAILED


async def test_a_job_that_is_being_cancelled_does_not_end_otherwise(core: Core) -> None:
    execution = await core.running()
    await core.cancel(execution.job_id)

    assert await finish_from_log(core.store, core.executions, core.log, execution, LOST, 0) == "cancelled"
    assert (await core.job(execution.job_id)).status is State.CANCELLING


async def test_a_rollback_may_go_back_to_the_middle_again_and_again(core: Core) -> None:
    execution = await core.running()

    def rollback(seq: int, to: int) -> Entry:
        frame = encode_frame(EventType.ROLLBACK, encode_data({"to": f"1-{to}"}), EventId(1, seq))
        return Entry(execution.job_id, execution.epoch, execution.owner, seq, seq, frame)

    answers = await core.append(
        frames_of(execution, 2, "a", "b", "c"),
        rollback(5, to=3),
        frames_of(execution, 6, "d", "e"),
        rollback(8, to=6),  # the range that it rolls back to has a rollback of its own
        frames_of(execution, 9, "f"),
        rollback(10, to=99),  # nothing is after it
    )
    assert answers == [Written()] * 6

    digest, latest = await read_stream_digest(core.log, execution.job_id)

    assert (digest.deltas, digest.sha256, latest) == (4, sha256_of("a", "b", "d", "f"), EventId(1, 10))


async def test_a_log_of_any_length_is_tallied_in_the_memory_of_a_page(core: Core) -> None:
    execution = await core.running()
    for seq in range(2, 102):
        assert await core.append(frames_of(execution, seq, "x" * 60_000)) == [Written()]
    tracemalloc.start()
    try:
        digest, _ = await read_stream_digest(core.log, execution.job_id)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert digest.deltas == 100
    assert peak < 5 * PAGE_BYTES  # the log is more than twenty


async def test_a_long_log_is_tallied_over_many_pages(core: Core) -> None:
    execution = await core.running()
    texts = [f"{n}" * 10_000 for n in range(10)] * 10
    for seq, text in enumerate(texts, 2):
        assert await core.append(frames_of(execution, seq, text)) == [Written()]
    assert (await core.log.read_after(execution.job_id, START, max_bytes=256 * 1024)).more

    digest, latest = await read_stream_digest(core.log, execution.job_id)

    assert (digest.deltas, digest.sha256, latest) == (100, sha256_of(*texts), EventId(1, 101))


# Persistence.


async def test_a_job_can_be_ended_as_soon_as_redis_is_back(own_valkey: EmbeddedValkey, own_core: Core) -> None:
    execution = await own_core.running()
    with captured_logs() as logs, frozen(own_valkey) as thaw:
        ending = asyncio.create_task(
            finish_from_log(own_core.store, own_core.executions, own_core.log, execution, LOST, 0)
        )
        await logs.wait_for("worker.waits_for_redis")
        assert not ending.done()
        thaw()
        assert await asyncio.wait_for(ending, TIMEOUT_S) == Written()

    assert await own_core.story(execution.job_id) == ["0-1 queued", "1-1 started", "1-2 failed"]


async def test_an_end_whose_acknowledgement_was_lost_is_sent_again_and_is_success(core: Core) -> None:
    execution = await core.running()
    answers: list[FinishAnswer] = []

    async def finish_and_lose_the_answer() -> FinishAnswer:
        answers.append(await core.finish(execution, State.COMPLETED, seq=2))
        if len(answers) == 1:
            raise RedisConnectionError("The connection broke before the answer came.")
        return answers[-1]

    with captured_logs():
        assert await retry_until_redis_answers(finish_and_lose_the_answer) == Written(repeated=True)

    assert await core.story(execution.job_id) == ["0-1 queued", "1-1 started", "1-2 completed"]


@pytest.mark.parametrize("error", [RedisConnectionError("gone"), ConnectionRefusedError(), TimeoutError()], ids=repr)
async def test_an_outage_is_waited_for(error: Exception) -> None:
    with captured_logs() as logs:
        assert await retry_until_redis_answers(failing(error, times=2)) == "done"

    assert len(logs.named("worker.waits_for_redis")) == 2


async def test_an_answer_that_is_an_error_is_not_waited_for() -> None:
    with pytest.raises(ResponseError):
        await retry_until_redis_answers(failing(ResponseError("WRONGTYPE"), times=1))


def failing(error: Exception, *, times: int) -> Callable[[], Awaitable[str]]:
    """Build a call that raises so many times, and then succeeds."""
    left = iter([error] * times)

    async def call() -> str:
        if (failure := next(left, None)) is not None:
            raise failure
        return "done"

    return call


# The stored outcome.


@pytest.mark.parametrize(
    ("error", "saved"), [(Cancelled.because("abandoned"), 98), (LOST, None)], ids=["abandoned", ""]
)
async def test_only_the_outcome_of_an_abandoned_job_estimates_the_saved_tokens(
    core: Core, error: TailraceError, saved: int | None
) -> None:
    execution = await core.running(request=b'{"model":"m","messages":[],"max_tokens":100}')
    await core.append(frames_of(execution, 2, "a", "b"))
    if saved is not None:
        await core.cancel(execution.job_id)

    assert await finish_from_log(core.store, core.executions, core.log, execution, error, 7) == Written()
    assert (await core.job(execution.job_id)).outcome.get("tokens_saved") == saved


async def test_an_abandoned_job_without_a_request_estimates_no_saved_tokens(core: Core) -> None:
    execution = await core.running()
    await core.cancel(execution.job_id)
    await core.client.delete(core.keys.job(execution.job_id).request)

    assert (
        await finish_from_log(core.store, core.executions, core.log, execution, Cancelled.because("abandoned"), 7)
        == Written()
    )
    assert (await core.job(execution.job_id)).outcome["tokens_saved"] == 0
