"""The next attempt of a job, as values, and the rules that follow from them.

No I/O. Not here: the decision whether a failure is retried (worker/model/retry.py), and the attempts themselves
(attempt_sequence.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.model.errors import AttemptFailed, Drained, Interrupted, LogBehind, ProviderRefused, WorkerLost
from shared.model.events import EventId
from shared.model.jobs import Job, Progress
from shared.model.routes import OnStreamFailure
from shared.store.executions import ROLLED_BACK, Execution, Succession
from worker.execution.attempt import AttemptInput
from worker.model.continuation import can_continue
from worker.model.digest import PartialAnswer
from worker.model.retry import FailureClass, classify, order_of
from worker.upstream.chain import Chain
from worker.upstream.selector import Permit


@dataclass(frozen=True, slots=True)
class Plan:
    """A job with its request, its chain and its policy for broken streams: the same for all of its attempts."""

    job: Job
    request: Mapping[str, Any]
    chain: Chain
    policy: OnStreamFailure

    @classmethod
    def of(cls, job: Job, request: Mapping[str, Any], chain: Chain) -> "Plan":
        """Return the plan of a job; the job's own policy comes before its chain's."""
        return cls(job, request, chain, job.on_stream_failure or chain.on_stream_failure)


@dataclass(frozen=True, slots=True)
class NextAttempt:
    """The attempt to make next. If an execution came before it, `cause` is the reason why that one ended.

    `partial` is the answer in the log up to `seen`. `former` is set only if this process ran the former execution.
    """

    progress: Progress
    owner: str
    epoch: int
    partial: PartialAnswer
    seen: EventId | None = None
    cause: AttemptFailed | None = None
    former: Execution | None = None


def cause_of_interruption(job: Job) -> Interrupted:
    """Return the reason why the job's last execution did not reach an end."""
    if job.owner:
        return WorkerLost.because_of_silence()
    error = (job.executions[-1].error if job.executions else None) or {}
    for kind in (Drained, LogBehind):
        if error.get("code") == kind.code:
            return kind(str(error.get("message", "")))
    return Interrupted("The answer was interrupted and can't be continued.")


def continuable_targets(plan: Plan, partial: PartialAnswer, progress: Progress) -> frozenset[int]:
    """Return the targets that need not start over. These are all targets if the log has no deltas yet."""
    targets = enumerate(plan.chain.targets)
    if not partial.deltas:
        return frozenset(position for position, _ in targets)
    if plan.policy is not OnStreamFailure.CONTINUE:
        return frozenset()
    out = {*progress.excluded, *progress.cannot_continue}
    return frozenset(
        position
        for position, target in targets
        if position not in out and can_continue(plan.request, partial, target.continuation)
    )


def may_follow(plan: Plan, partial: PartialAnswer, progress: Progress) -> bool:
    """Return whether another attempt may follow one that logged this partial answer."""
    if not partial.deltas:
        return True
    if plan.policy is OnStreamFailure.FAIL:
        return False
    return not plan.job.append_only_reader or bool(continuable_targets(plan, partial, progress))


def target_orders(plan: Plan, upcoming: NextAttempt) -> tuple[list[int], list[int]]:
    """Return the targets to call, in order: those that can continue, then those to use if the circuits of all are open.

    The second list is empty for an append-only reader, because such a reader can't discard the partial answer.
    """
    able = continuable_targets(plan, upcoming.partial, upcoming.progress)
    order = order_of(len(plan.chain.targets), upcoming.progress, able)
    first = [target for target in order if target in able] or order
    return first, [] if plan.job.append_only_reader else [target for target in order if target not in first]


def attempt_input(plan: Plan, upcoming: NextAttempt, permit: Permit) -> AttemptInput:
    """Build the input of the attempt at the permitted target."""
    partial = upcoming.partial
    continues = bool(partial.deltas) and permit.target in continuable_targets(plan, partial, upcoming.progress)
    return AttemptInput(plan.request, plan.chain.targets[permit.target], partial if continues else None, permit.check)


def succession(upcoming: NextAttempt, given: AttemptInput) -> Succession | None:
    """Describe the attempt's predecessor for the store; None for the first execution of a job."""
    if upcoming.seen is None:
        return None
    resumed_from = upcoming.seen if given.partial else ROLLED_BACK if upcoming.partial.deltas else None
    former = "" if upcoming.former is None else upcoming.former.owner
    return Succession(upcoming.cause or WorkerLost.because_of_silence(), former, resumed_from, upcoming.seen)


def deltas_offset(upcoming: NextAttempt, given: AttemptInput) -> int:
    """Return the difference between an event's number in the attempt and its delta's number in the answer.

    An attempt begins with `started`, after a rollback if deltas were logged that it does not continue.
    """
    if given.partial is not None:
        return given.partial.deltas - 1
    return -2 if upcoming.partial.deltas else -1


def refuses_to_continue(given: AttemptInput, shown: int, error: AttemptFailed) -> bool:
    """Return whether a provider refused to continue an answer before it generated anything."""
    if given.partial is None or shown > given.partial.deltas or not isinstance(error, ProviderRefused):
        return False
    return classify(error).failure_class is FailureClass.DETERMINISTIC
