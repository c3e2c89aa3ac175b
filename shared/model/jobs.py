"""The values of a job as frozen records: the admitted request (`JobSpec`) and its state (`Job`).

Pure: time and randomness come in as numbers. Not here: reading a record (job_record.py), storing it (shared/store),
and the order of states (lifecycle.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from shared.model.errors import needs_a_person
from shared.model.events import EventId
from shared.model.lifecycle import TERMINAL, State
from shared.model.parents import Parents
from shared.model.progress_count import ProgressReport
from shared.model.routes import OnStreamFailure

KEPT = "tailrace"
"""The field of a request's body for values that a dialect must repeat in its answer. No provider gets it."""
LONGEST_TIMEOUT_S = 604_800.0
"""No setting allows a job to take longer than this week."""

VIEWER_LEASE_S = 30.0
"""A gateway's readers count as present for this long after its last report of them."""

FLOAT_BYTES = 4
"""The size of a number in a vector."""

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_ID_CHARS = 26
_RANDOM_BITS = 80
_STEP = (1 << 64) - 1  # the most by which an id is larger than the last of its millisecond: too much to guess
_FIRST_OF_MS = (1 << (_RANDOM_BITS - 1)) - 1  # the first of a millisecond leaves room for 32,768 others
_PREFIX = "job_"


def new_job_id(now_ms: int, randomness: int) -> str:
    """Make a job id: `job_` and a ULID in lower case (48 bits of time, 80 of `randomness`). Ids sort by creation."""
    number = (now_ms << _RANDOM_BITS) | (randomness & ((1 << _RANDOM_BITS) - 1))
    digits = [_ALPHABET[(number >> shift) & 31] for shift in range(5 * (_ID_CHARS - 1), -1, -5)]
    return _PREFIX + "".join(digits)


class JobIds:
    """Make the ids of one process's jobs. They sort in the order in which they were made, also within a millisecond.

    A later id of the same millisecond is larger by a random number, as the ULID specification's "Monotonicity" allows.
    """

    def __init__(self) -> None:
        self._last = -1

    def next(self, now_ms: int, randomness: int) -> str:
        """Make the next id: `randomness` has 80 bits. A clock that was set back makes ids of the latest time."""
        if now_ms > self._last >> _RANDOM_BITS:
            number = (now_ms << _RANDOM_BITS) | (randomness & _FIRST_OF_MS)
        else:
            number = self._last + 1 + (randomness & _STEP)
        self._last = number
        return new_job_id(number >> _RANDOM_BITS, number)


def is_job_id(text: str) -> bool:
    """Return whether the text has the form of a job's id; the job may not exist."""
    bare = text.removeprefix(_PREFIX)
    return len(text) == len(_PREFIX) + _ID_CHARS and len(bare) == _ID_CHARS and all(c in _ALPHABET for c in bare)


def created_ms(job_id: str) -> int:
    """Return the time at which the id was made, in milliseconds since the Unix epoch."""
    number = 0
    for char in job_id.removeprefix(_PREFIX):
        number = number << 5 | _ALPHABET.index(char)
    return number >> _RANDOM_BITS


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one job. `source` names the counter: `provider`, `estimated` or `partial` (cut off on the way)."""

    prompt_tokens: int
    completion_tokens: int
    source: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the `usage` object of a terminal event: OpenAI's fields, and the source."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            **self.details,
            "source": self.source,
        }


class OnDisconnect(StrEnum):
    """The effect on a job when its last viewer leaves."""

    CONTINUE = "continue"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True)
class Abandonment:
    """The time after which a job without readers is cancelled; None: never.

    `first_viewer_timeout_s` counts from submit if no viewer ever arrived, `disconnect_grace_s` from the time the last
    one left.
    """

    on_disconnect: OnDisconnect = OnDisconnect.CONTINUE
    first_viewer_timeout_s: float | None = None
    disconnect_grace_s: float | None = None


def abandonment(on_disconnect: OnDisconnect, after_s: float | None, *, grace_s: float) -> Abandonment:
    """Compute the abandonment that a caller asked for.

    `after_s` is the time that the job may be without a viewer, before the first one or after the last. With
    `on_disconnect: cancel`, the last viewer has at most `grace_s` to return. If `after_s` is not set, the first viewer
    then has a viewer's lease to arrive.
    """
    if on_disconnect is OnDisconnect.CONTINUE:
        return Abandonment(on_disconnect, after_s, after_s)
    if after_s is None:
        return Abandonment(on_disconnect, VIEWER_LEASE_S, grace_s)
    return Abandonment(on_disconnect, after_s, min(grace_s, after_s))


@dataclass(frozen=True, slots=True)
class Embedded:
    """The progress of a job of kind `embeddings`: the part of its result that is stored.

    The result's bytes are the vectors of the first `done` of `total` inputs, one after the other, each of `dimensions`
    32-bit floats in little-endian order; `sha256` is their hash. `model` is the provider's name of the model that made
    them: vectors of two models can't be compared. `prompt_tokens` is their cost, `source` its counter (`Usage`).
    """

    model: str
    done: int
    total: int
    dimensions: int
    prompt_tokens: int
    source: str
    sha256: str

    @property
    def vector_bytes(self) -> int:
        """Return the size of one vector in bytes."""
        return self.dimensions * FLOAT_BYTES

    @property
    def size(self) -> int:
        """Return the size of the stored part in bytes."""
        return self.done * self.vector_bytes

    @property
    def usage(self) -> Usage:
        """Return the cost so far. Until all is done, it is partial."""
        return Usage(self.prompt_tokens, 0, self.source if self.done == self.total else "partial")

    def as_dict(self) -> dict[str, Any]:
        """Return the form in a record."""
        return {name: getattr(self, name) for name in self.__slots__}

    def proof(self) -> dict[str, Any]:
        """Return the `result` object of a terminal event: a reader checks the result against it."""
        return {"inputs": self.done, "dimensions": self.dimensions, "sha256": self.sha256}


@dataclass(frozen=True, slots=True)
class JobSpec:
    """An admitted request, from which a job's record is made.

    `request` is the JSON body for the provider, perhaps with a field `KEPT`. `timeout_s` counts from submit. `viewer`
    is the gateway with a caller that waits for the answer as its first viewer, if there is one. `on_stream_failure`, if
    set, replaces the rule of the model's route. An `append_only_reader` job has a reader that can't take back deltas
    that it has shown. `requeued_from` is the dead letter that this request repeats. `keep_s`, if set, is the longest
    time that the job is kept after its end. `brief`, if set, replaces the request if no answer results from it.
    `webhook` is a `JobWebhook` as it is stored, or empty.
    """

    id: str
    kind: str
    tenant: str
    lane: str
    model: str
    request: bytes
    timeout_s: float
    metadata: Mapping[str, str] = field(default_factory=dict)
    abandonment: Abandonment = Abandonment()
    viewer: str | None = None
    fingerprint: str = ""
    idempotency_key: str | None = None
    on_stream_failure: OnStreamFailure | None = None
    append_only_reader: bool = False
    requeued_from: str | None = None
    keep_s: float | None = None
    brief: bytes = b""
    webhook: bytes = b""
    parents: Parents | None = None
    """The jobs that it comes after; None if it may start at once."""
    gate: str = ""
    """The workflow for which it waits besides; empty without one."""

    @property
    def lifetime_s(self) -> float:
        """Return the longest time from its submit to its end: a job that waits for others gets its own time later."""
        return self.timeout_s if self.parents is None else LONGEST_TIMEOUT_S


class Place(NamedTuple):
    """The fields of a job that the queue needs. A job that `began` may have a worker, which takes precedence.

    `tenant` is empty if the record does not name it.
    """

    job_id: str
    lane: str
    began: bool
    tenant: str = ""


class Listing(NamedTuple):
    """The other entries of a job on the queue's server: its place in the tenant's list, and the Idempotency-Key.

    The job can be read for `kept_ms`; its key, if it has one, counts for `key_left_ms`.
    """

    job_id: str
    tenant: str
    kept_ms: int
    key: str = ""
    fingerprint: str = ""
    key_left_ms: int = 0


@dataclass(frozen=True, slots=True)
class ExecutionRecord:
    """One execution of a job, as in its record. Times are milliseconds since the Unix epoch, 0 = not yet.

    Without a provider, `model` and `provider` are None. `attempt` is its number; an execution that a draining worker
    handed back and the one that follows share theirs. `resumed_from` is the event id that it continued from; `error` is
    the reason why another execution followed, in the form of `errors.problem_of`.
    """

    epoch: int
    attempt: int
    model: str | None
    provider: str | None
    resumed_from: str | None
    started_ms: int
    ended_ms: int = 0
    error: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """The costs of a job's attempts and the targets that they excluded, from which worker/model/retry.py decides.

    `failures` attempts ended by themselves. The chain's `target` is tried next, the `excluded` ones never again. Those
    in `cannot_continue` refused to continue in mid-sentence, those in `garbage` have sent some. `rounds` counts the
    passes through the chain; `discarded_tokens` deltas were taken back. `crashes` workers were lost in a row while the
    answer had `died_at` deltas. `pauses` holds (target, seconds that the job has left once its pause is over) of
    targets that requested a pause: deadlines are the same for all workers, their clocks are not.

    The last two are for the job's readers: the answer is expected to have `expected_tokens` (0: unknown), and event
    number `seq` of the last execution is delta number `seq + deltas_offset` of the answer.
    """

    failures: int = 0
    target: int = 0
    excluded: tuple[int, ...] = ()
    cannot_continue: tuple[int, ...] = ()
    garbage: tuple[int, ...] = ()
    rounds: int = 0
    discarded_tokens: int = 0
    crashes: int = 0
    died_at: int = 0
    pauses: tuple[tuple[int, float], ...] = ()
    expected_tokens: int = 0
    deltas_offset: int = -1


@dataclass(frozen=True, slots=True)
class Job:
    """A job's record, as read. Times are milliseconds since the Unix epoch, 0 = not yet."""

    id: str
    kind: str
    tenant: str
    lane: str
    model: str
    status: State
    last: EventId
    attempts: int
    created_ms: int
    started_ms: int
    ended_ms: int
    deadline_ms: int
    abandon_ms: int
    """The time at which it is abandoned unless a viewer arrives or renews its lease; 0 = never."""
    on_disconnect: OnDisconnect
    metadata: Mapping[str, str]
    outcome: Mapping[str, Any]
    embedded: Embedded | None = None
    """The stored part of its result, if its kind has one."""
    hidden: bool = False
    """Whether its owner deleted it: requests for it get a 404, and it is kept only until it has ended."""
    on_stream_failure: OnStreamFailure | None = None
    """The caller's choice for a stream that fails; None: the route's."""
    append_only_reader: bool = False
    """Whether it runs for a reader that can't take back deltas that it has shown: never restart its answer."""
    owner: str = ""
    """The execution that may write to the log; empty if none has begun, or if the last one was left."""
    progress: Progress = Progress()
    report: ProgressReport | None = None
    """The last report of its function's progress."""
    executions: tuple[ExecutionRecord, ...] = ()
    requeued_from: str | None = None
    """The dead letter that this job repeats."""
    requeued_as: str | None = None
    """The job that repeats this one."""
    brief: bool = False
    """Whether its caller does not want it stored: it is deleted soon after its end, and is never a dead letter."""
    dismissed: bool = False
    """Whether it was a dead letter and was deleted as one."""
    request_id: str = ""
    """The HTTP request that submitted it; the log names both."""
    webhook: bytes = b""
    """Its webhook, as `JobWebhook` stores it; empty without one."""
    parents: Parents | None = None
    """The jobs that it comes after."""
    awaited: tuple[str, ...] = ()
    """Those of them whose end it has not seen."""
    released_ms: int = 0
    """The time at which it stopped waiting for them."""
    has_children: bool = False
    """Whether jobs that come after it have registered."""

    @property
    def ready_ms(self) -> int:
        """Return the time from which its time-out counts and it waits for a worker."""
        return self.released_ms or self.created_ms

    @property
    def timeout_s(self) -> float:
        """Return the time that it has from `ready_ms` to its end."""
        return (self.deadline_ms - self.ready_ms) / 1000

    @property
    def dead_letter(self) -> bool:
        """Return whether it failed for good, not through its own request, and is stored for a person to examine."""
        failed = self.status is State.FAILED and needs_a_person(self.error_code)
        return failed and not (self.hidden or self.dismissed or self.brief)

    @property
    def error_code(self) -> str:
        """Return the code of the error that it ended with; empty without one."""
        return code_in(self.outcome)

    @property
    def ended(self) -> bool:
        """Return whether the terminal event is written."""
        return self.status in TERMINAL

    @property
    def background(self) -> bool:
        """Return whether it continues when its readers leave."""
        return self.on_disconnect is OnDisconnect.CONTINUE

    @property
    def abandonable(self) -> bool:
        """Return whether it is abandoned if it has no readers."""
        return self.abandon_ms > 0

    @property
    def place(self) -> Place:
        """Return its place in the queue."""
        return Place(self.id, self.lane, self.status not in (State.WAITING, State.QUEUED), self.tenant)


def code_in(outcome: Mapping[str, Any]) -> str:
    """Return the code of the error in a terminal event's data; empty without one."""
    error = outcome.get("error")
    return str(error.get("code") or "") if isinstance(error, Mapping) else ""
