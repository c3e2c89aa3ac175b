"""A job that this process has taken, and the attempt that is to be made of it next: values, and what follows from them.

Above: attempts.py, which carries it out. Below: continuation (whether and how to go on), fallback (the chain). No I/O.
Not here: what follows a failure (retry.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.model.errors import AttemptFailed, Drained, Interrupted, LogBehind, ProviderRefused, WorkerLost
from shared.model.events import EventId
from shared.model.jobs import Job, Progress
from shared.model.routes import OnStreamFailure
from shared.store.jobs import Execution
from shared.store.queue import Claim
from worker.execution.attempt import Question
from worker.model.continuation import can_go_on
from worker.model.digest import Heard
from worker.model.retry import Sort, classify, order_of
from worker.upstream.chain import Chain
from worker.upstream.selector import Pass


@dataclass(frozen=True, slots=True)
class Task:
    """A job that was taken, with all that its attempts need to know of it."""

    claim: Claim
    job: Job
    request: Mapping[str, Any]
    chain: Chain
    policy: OnStreamFailure


@dataclass(frozen=True, slots=True)
class Next:
    """The attempt that is to be made, after the execution `former`, which ended because of `cause`.

    `heard` is what the log holds up to `seen`, where there was a former execution. `former` is None where it was not
    this task's own.
    """

    progress: Progress
    owner: str
    epoch: int
    heard: Heard
    seen: EventId | None = None
    cause: AttemptFailed | None = None
    former: Execution | None = None


def why_left(job: Job) -> Interrupted:
    """Why the job's last execution came to no end."""
    if job.owner:
        return WorkerLost.because_of_silence()
    said = (job.tries[-1].error if job.tries else None) or {}
    for kind in (Drained, LogBehind):
        if said.get("code") == kind.code:
            return kind(str(said.get("message", "")))
    return Interrupted("The answer was interrupted, and can't be gone on with.")


def able_links(task: Task, heard: Heard, progress: Progress) -> frozenset[int]:
    """The links that need not start over: all, where nothing has been shown yet."""
    links = enumerate(task.chain.links)
    if not heard.deltas:
        return frozenset(position for position, _ in links)
    if task.policy is not OnStreamFailure.CONTINUE:
        return frozenset()
    out = {*progress.barred, *progress.unable}
    return frozenset(
        position
        for position, link in links
        if position not in out and can_go_on(task.request, heard, link.continuation)
    )


def may_follow(task: Task, heard: Heard, progress: Progress) -> bool:
    """Whether another attempt may follow one that has shown this much."""
    if not heard.deltas:
        return True
    return task.policy is not OnStreamFailure.FAIL and not (task.job.one_way and not able_links(task, heard, progress))


def orders_of(task: Task, upcoming: Next) -> tuple[list[int], list[int]]:
    """Which links are asked, in order: first those that can go on, the others only where none of these is well.

    Nothing is started over for who can't take back what was shown.
    """
    able = able_links(task, upcoming.heard, upcoming.progress)
    order = order_of(len(task.chain.links), upcoming.progress, able)
    first = [link for link in order if link in able] or order
    return first, [] if task.job.one_way else [link for link in order if link not in first]


def question_of(task: Task, upcoming: Next, way: Pass) -> Question:
    """What is asked at this link, after so much of an answer."""
    heard = upcoming.heard
    goes_on = bool(heard.deltas) and way.link in able_links(task, heard, upcoming.progress)
    return Question(task.request, task.chain.links[way.link], heard if goes_on else None, way.check)


def refuses_the_rest(question: Question, shown: int, error: AttemptFailed) -> bool:
    """Whether a provider was asked to go on, and has refused that before it said anything."""
    if question.heard is None or shown > question.heard.deltas or not isinstance(error, ProviderRefused):
        return False
    return classify(error).sort is Sort.DETERMINISTIC
