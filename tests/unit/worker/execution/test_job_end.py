"""Test that a job is ended from its record and log, and that the answer says whether it has ended now."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest

from shared.model.errors import BrokenJob, Cancelled, DeadlinePassed, JobNotFound
from shared.model.events import EventId, EventType, encode_frame
from shared.model.lifecycle import State
from shared.store.executions import Execution, Executions
from shared.store.jobs import JobRecords
from shared.store.replay_log import Entry, Page, ReplayLog
from shared.store.wire.answers import BeginRefusal, FinishAnswer, StopReason, Written
from worker.execution.job_end import JobEnder
from worker.model.token_estimate import SavedTokenEstimate

EXECUTION = Execution("job", epoch=3, owner="reaper", seq=0, base=2, attempt=1, left_ms=0)
REQUEST = {"messages": [{"role": "user", "content": "8 chars."}]}
LATE = DeadlinePassed("The job's time was over.")


class Records:
    """Stand for the records: the answers to a take-over, and to each terminal event in turn."""

    def __init__(
        self,
        taken: Execution | BeginRefusal = EXECUTION,
        answers: Sequence[FinishAnswer] = (Written(),),
        request: Mapping[str, Any] | Exception = REQUEST,
    ) -> None:
        self._taken, self._answers, self._request = taken, list(answers), request
        self.asked: list[tuple[str, str, int | None]] = []
        self.ends: list[tuple[State, dict[str, Any], int]] = []

    async def take_over(self, job_id: str, owner: str, epoch: int | None) -> Execution | BeginRefusal:
        self.asked.append((job_id, owner, epoch))
        return self._taken

    async def request(self, job_id: str) -> Mapping[str, Any]:
        if isinstance(self._request, Exception):
            raise self._request
        return self._request

    async def embedded(self, job_id: str) -> None:
        """Return nothing: the job has no result."""

    async def cancel_state(self, job_id: str) -> tuple[str, int]:
        return "abandoned", 1

    async def finish(
        self,
        execution: Execution,
        *,
        seq: int,
        frame: bytes,
        status: State,
        outcome: bytes,
        result: bytes | None,
        last: Entry | None,
    ) -> FinishAnswer:
        assert result is None
        assert last is None
        self.ends.append((status, json.loads(outcome), seq))
        return self._answers.pop(0)


class Log:
    """Hold one delta of the execution before."""

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error

    async def read_after(self, job_id: str, cursor: EventId, *, max_bytes: int) -> Page:
        if self._error is not None:
            raise self._error
        delta = encode_frame(EventType.DELTA, b'{"content":"Hi"}', EventId(2, 2))
        return Page(State.RUNNING, EventId(0, 1), EventId(2, 2), True, [delta], False)


def ender(records: Records, log: Log | None = None) -> JobEnder:
    return JobEnder(
        cast(JobRecords, records), cast(Executions, records), cast(ReplayLog, log or Log()), SavedTokenEstimate()
    )


async def test_the_event_follows_the_log_with_its_count_and_an_estimated_prompt() -> None:
    records = Records()

    assert await ender(records).end("job", "reaper", LATE, 2)

    ((status, outcome, seq),) = records.ends
    assert records.asked == [("job", "reaper", 2)]
    assert (status, seq, outcome["events"]) == (State.EXPIRED, 1, 3)
    assert outcome["error"]["code"] == "deadline_passed"
    assert outcome["usage"] == {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4, "source": "partial"}


@pytest.mark.parametrize(
    ("refusal", "ended"),
    [(BeginRefusal.ENDED, True), (BeginRefusal.MISSING, True), (BeginRefusal.STALE, False)],
)
async def test_a_job_that_can_not_be_taken_over_gets_no_event(refusal: BeginRefusal, ended: bool) -> None:
    records = Records(refusal)

    assert await ender(records).end("job", "reaper", LATE) is ended
    assert records.ends == []


@pytest.mark.parametrize(
    ("answer", "ended"),
    [(Written(repeated=True), True), (StopReason.ENDED, True), (StopReason.MISSING, True), (StopReason.FENCED, False)],
)
async def test_the_answer_to_the_event_decides_whether_the_job_has_ended(answer: FinishAnswer, ended: bool) -> None:
    assert await ender(Records(answers=[answer])).end("job", "reaper", LATE) is ended


async def test_a_job_that_is_cancelled_meanwhile_ends_as_cancelled_for_the_reason_in_its_record() -> None:
    records = Records(answers=[StopReason.CANCELLED, Written()])

    assert await ender(records).end("job", "reaper", LATE)

    assert [status for status, _, _ in records.ends] == [State.EXPIRED, State.CANCELLED]
    assert records.ends[-1][1]["error"]["code"] == "abandoned"


async def test_the_cancellation_names_the_reason_in_the_record() -> None:
    error = await ender(Records()).cancellation("job")

    assert isinstance(error, Cancelled)
    assert error.code == "abandoned"


async def test_a_job_whose_request_can_not_be_read_ends_without_the_prompts_tokens() -> None:
    records = Records(request=BrokenJob("Unreadable."))

    assert await ender(records).end("job", "reaper", LATE)

    assert records.ends[0][1]["usage"]["prompt_tokens"] == 0


async def test_a_job_without_a_log_counts_as_ended() -> None:
    records = Records()

    assert await ender(records, Log(JobNotFound("There is no job."))).end("job", "reaper", LATE)
    assert records.ends == []
